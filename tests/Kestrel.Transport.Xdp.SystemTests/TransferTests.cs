using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Text.Json;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

[Collection(DirectCollection.Name)]
public sealed class TransferTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    [SkippableFact]
    public async Task Transfer_Of200MegabytesEachWay_HasEqualSha256()
    {
        Lab.Require("curl");
        await OnXdpAsync(lab, server => EachWayAsync(lab, server, bytes: 200_000_000, seconds: 100));
    }

    /// <summary>A download, and the same bytes back: each over AF_XDP, and with equal SHA-256.</summary>
    internal static async Task EachWayAsync(
        Lab lab, HelloWebServer server, long bytes, int seconds, IPAddress? address = null,
        string device = Lab.Interface)
    {
        string file = Path.GetTempFileName();
        try
        {
            string path = string.Create(CultureInfo.InvariantCulture, $"/bytes/{bytes}");
            string limit = seconds.ToString(CultureInfo.InvariantCulture);
            string expected = Sha256(await server.ControlAsync($"{path}/sha256"));

            string facts = (await lab.Client.RunAsync("curl", "-sS", "--max-time", limit,
                "-o", file, $"{server.Url(path, address)}",
                "-o", "-", $"{server.Url("/connection", address)}")).Succeeded();
            ConnectionFacts.Parse(facts).AssertOnXdp(device);
            Assert.Equal(bytes, new FileInfo(file).Length);
            await using (FileStream stream = File.OpenRead(file))
                Assert.Equal(expected, Convert.ToHexStringLower(await SHA256.HashDataAsync(stream)));

            string[] answers = (await lab.Client.RunAsync("curl", "-sS", "--max-time", limit, "-w", "\n",
                "-X", "POST", "-T", file, $"{server.Url("/upload", address)}", "--next", "-sS",
                $"{server.Url("/connection", address)}")).Succeeded().Split('\n');
            Assert.Equal(expected, Sha256(answers[0]));
            ConnectionFacts.Parse(answers[1]).AssertOnXdp(device);
        }
        finally
        {
            File.Delete(file);
        }
    }

    internal static string Sha256(string json)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        return document.RootElement.GetProperty("sha256").GetString()!;
    }
}
