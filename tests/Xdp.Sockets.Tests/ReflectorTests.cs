using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Shared;
using Xdp.Sockets.Tests.Net;

namespace Xdp.Sockets.Tests;

/// <summary>samples/Reflector does what docs/xdp-sockets.md says of it, and the document quotes it as it is.</summary>
[Collection(NetworkCollection.Name)]
public class ReflectorTests
{
    private static readonly IPAddress s_address = IPAddress.Parse("10.9.1.1");

    [SkippableFact]
    public async Task Reflector_UdpToPort7_ComesBack()
    {
        TestNetwork.Require();
        using TestNetwork server = new(), client = new();
        const string queues = "numtxqueues 1 numrxqueues 1";
        server.Ip($"link add srv0 {queues} type veth peer name cli0 netns {client.Name} {queues}");
        server.Ip($"addr add {s_address}/24 dev srv0");
        client.Ip("addr add 10.9.1.2/24 dev cli0");
        server.Ip("link set srv0 up");
        client.Ip("link set cli0 up");

        // What runs in a shell's background ignores SIGINT, and so does what it starts.
        string[] command = ["env", "--default-signal=INT", "dotnet", Repository.SampleAssembly("Reflector"), "srv0"];
        using Process reflector = Command.Start(LabScript.Inside(server.Name, command));
        try
        {
            Task<string> errors = reflector.StandardError.ReadToEndAsync();
            string? ready = await reflector.StandardOutput.ReadLineAsync().WaitAsync(Command.Limit);
            Assert.True(ready == "reflecting on srv0: Native, copy", $"It said '{ready}'.");

            using Socket socket = client.Run(
                () => new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp));
            await socket.ConnectAsync(new IPEndPoint(s_address, 7));
            byte[] received = new byte[2000];
            foreach (int length in (int[])[1, 100, 1472])
            {
                byte[] sent = [.. Enumerable.Range(length, length).Select(i => (byte)i)];
                await socket.SendAsync(sent);
                int count = await socket.ReceiveAsync(received).WaitAsync(Command.Limit);
                Assert.Equal(sent, received[..count]);
            }

            Command.Run("kill", "-INT", $"{reflector.Id}").Succeeded();
            await reflector.WaitForExitAsync().WaitAsync(Command.Limit);
            Assert.Equal("", await errors);
            Assert.Equal(0, reflector.ExitCode);
        }
        finally
        {
            reflector.Kill(entireProcessTree: true);
        }
    }

    [Fact]
    public void Document_QuotesTheReflectorAsItIs()
    {
        string code = File.ReadAllText(Path.Combine(Repository.Root, "samples", "Reflector", "Program.cs"));
        string document = File.ReadAllText(Path.Combine(Repository.Root, "docs", "xdp-sockets.md"));
        const string begin = "```csharp\n", end = "```\n";
        string[] quotes =
            [.. document.Split(begin).Skip(1).Select(part => part[..part.IndexOf(end, StringComparison.Ordinal)])];
        Assert.NotEmpty(quotes);
        Assert.All(quotes, quote => Assert.Contains(quote, code, StringComparison.Ordinal));
    }
}
