using System.Globalization;
using System.Net;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>curl, each way that HTTP goes, over both families.</summary>
[Collection(DirectCollection.Name)]
public sealed class ProtocolTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const int H2cPort = 8081, HttpsPort = 8443;

    [SkippableTheory]
    [InlineData("http", 8080, "HTTP/1.1", "--http1.1")]
    [InlineData("http", H2cPort, "HTTP/2", "--http2-prior-knowledge")]
    [InlineData("https", HttpsPort, "HTTP/1.1", "--http1.1")]
    [InlineData("https", HttpsPort, "HTTP/2", "--http2")]
    public async Task Curl_OverIPv4AndIPv6_IsServedOverXdp(string scheme, int port, string protocol, string option)
    {
        Lab.Require("curl");
        await OnXdpAsync(lab.Server, new HelloWebSettings { H2cPort = H2cPort, HttpsPort = HttpsPort }, async server =>
        {
            foreach (IPAddress address in (IPAddress[])[Lab.ServerIp4, Lab.ServerIp6])
            {
                string[] curl =
                    ["curl", "-sS", "-g", "--insecure", option, "--max-time", "30", "-w", "\n%{num_connects}\n"];
                Uri plaintext = server.Url("/plaintext", address, port, scheme),
                    connection = server.Url("/connection", address, port, scheme);
                // Both requests go over one connection, so what /connection says is true of the other answer too. The
                // exception is cleartext HTTP/2: curl 7.88 fails to use such a connection twice, whoever serves it.
                string answers = option == "--http2-prior-knowledge"
                    ? (await lab.Client.RunAsync([.. curl, $"{plaintext}"])).Succeeded()
                        + (await lab.Client.RunAsync([.. curl, $"{connection}"])).Succeeded()
                    : (await lab.Client.RunAsync([.. curl, $"{plaintext}", $"{connection}"])).Succeeded();
                string[] lines = answers.Split('\n');
                Assert.Equal("Hello, World!", lines[0]);
                Assert.Equal("1", lines[1]);
                ConnectionFacts facts = ConnectionFacts.Parse(lines[2]);
                Assert.Equal(option == "--http2-prior-knowledge" ? "1" : "0", lines[3]);
                facts.AssertOnXdp();
                Assert.Equal(protocol, facts.Protocol);
                IPAddress remote = facts.RemoteEndPoint.Address;
                Assert.Equal(
                    address.AddressFamily, (remote.IsIPv4MappedToIPv6 ? remote.MapToIPv4() : remote).AddressFamily);
            }
        });
    }

    [SkippableFact]
    public async Task Openssl_Handshake_IsServedOverXdp()
    {
        Lab.Require("openssl");
        await OnXdpAsync(lab.Server, new HelloWebSettings { HttpsPort = HttpsPort }, async server =>
        {
            string session = (await lab.Client.RunAsync(
                "openssl", "s_client", "-connect", $"{server.EndPointFor(Lab.ServerIp4, HttpsPort)}", "-alpn",
                "h2")).Succeeded();
            Assert.Contains("ALPN protocol: h2", session, StringComparison.Ordinal);
            Assert.Contains("CN = HelloWeb", session, StringComparison.Ordinal);
        });
    }

    [SkippableFact]
    public async Task Pipelined_200RequestsOnOneConnection_AreAnsweredInOrder()
    {
        Lab.Require();
        const int Requests = 200;
        await OnXdpAsync(lab, async server =>
        {
            using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
            // Lengths that say which answer is which, around one segment and several.
            int Length(int i) => (i * 37) + 1;
            string all = string.Concat(Enumerable.Range(0, Requests)
                .Select(i => RawHttp.Get(string.Create(CultureInfo.InvariantCulture, $"/bytes/{Length(i)}"))));
            Task writing = http.WriteAsync(all);
            for (int i = 0; i < Requests; i++)
            {
                byte[] body = await http.ReadResponseAsync();
                Assert.Equal(Length(i), body.Length);
                Pattern.AssertMatches(body, 0);
            }
            await writing;
            (await http.FactsAsync()).AssertOnXdp();
        });
    }

    [SkippableFact]
    public async Task InlineScheduling_ManyRequests_AreServedOverXdp()
    {
        Lab.Require("curl");
        await OnXdpAsync(lab.Server, new HelloWebSettings { Inline = true }, async server =>
        {
            string answers =
                (await lab.Client.RunAsync("curl", "-sS", "--max-time", "30", $"{server.Url("/connection")}?[1-100]"))
                    .Succeeded();
            string[] each = answers.Replace("}{", "}\n{", StringComparison.Ordinal).Split('\n');
            Assert.Equal(100, each.Length);
            Assert.All(each, json => ConnectionFacts.Parse(json).AssertOnXdp());
        });
    }
}
