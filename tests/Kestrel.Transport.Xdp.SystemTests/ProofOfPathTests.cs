using System.Net;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;
using Xunit.Sdk;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>The witnesses themselves: with steering broken, what every other test relies on must fail.</summary>
[Collection(DirectCollection.Name)]
public sealed class ProofOfPathTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    [SkippableFact]
    public async Task SwitchedOff_ProofFails()
    {
        Lab.Require();
        await WithServerAsync(
            lab.Server, new HelloWebSettings { Required = false, Environment = { ["KESTREL_XDP"] = "off" } },
            server => AssertProofFailsAsync(server, static () => Task.CompletedTask));
    }

    [SkippableFact]
    public async Task NoSuchInterface_ProofFails()
    {
        Lab.Require();
        await WithServerAsync(lab.Server, new HelloWebSettings { Required = false, Interfaces = ["nosuch0"] },
            server => AssertProofFailsAsync(server, static () => Task.CompletedTask));
    }

    /// <summary>The program is taken off the interface while the app believes it is there.</summary>
    [SkippableFact]
    public async Task ProgramDetached_ProofFails()
    {
        Lab.Require("bpftool");
        await WithServerAsync(
            lab.Server, new HelloWebSettings(),
            server => AssertProofFailsAsync(server, () => AttachedProgram.DetachAsync(lab.Server)));
    }

    /// <summary>What an earlier server on sockets left in TIME-WAIT is the kernel's: no failure of this one.</summary>
    [SkippableFact]
    public async Task PortInTimeWaitOfTheKernel_TakenAgain_ProofHolds()
    {
        Lab.Require();
        const int Port = 20_077;
        await WithServerAsync(lab.Server, HelloWebSettings.Sockets, async server =>
        {
            await CloseByServerAsync(server, Port);
            string waits = (await lab.Server.RunAsync("ss", "-Htan", "state", "time-wait")).Succeeded();
            Assert.Contains($":{Port}", waits, StringComparison.Ordinal);
        });
        await OnXdpAsync(lab.Server, new HelloWebSettings(), server => CloseByServerAsync(server, Port));
    }

    private async Task CloseByServerAsync(HelloWebServer server, int port)
    {
        using Socket socket = await lab.Client.ConnectAsync(
            server.EndPoint, prepare: socket => socket.Bind(new IPEndPoint(IPAddress.Any, port)));
        using var http = new RawHttp(socket);
        await http.WriteAsync("GET /plaintext HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n");
        await http.ReadHeadAsync();
        while (!(await http.ReadSomeAsync()).IsEmpty)
        {
        }
    }

    private async Task AssertProofFailsAsync(HelloWebServer server, Func<Task> sabotage)
    {
        ProofOfPath proof = await ProofOfPath.BeginAsync(server);
        await sabotage();
        using (HttpClient client = lab.Client.HttpClient())
        {
            // The app answers all the same, which is why the witnesses are needed.
            ConnectionFacts facts = await FactsAsync(client, server.Url("/connection"));
            Assert.ThrowsAny<XunitException>(() => facts.AssertOnXdp());
        }
        XunitException failure = await Assert.ThrowsAnyAsync<XunitException>(proof.AssertAsync);
        Output.WriteLine(failure.Message);
    }
}
