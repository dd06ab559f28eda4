using System.Net.Sockets;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>
/// Connections that end while bytes wait that nobody will read. The harness asserts that every frame has come home
/// afterwards. The tests assert the same of the heap blocks.
/// </summary>
[Collection(DirectCollection.Name)]
public sealed class AbortTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const int Clients = 8, Rounds = 3;

    /// <summary>
    /// Nobody reads the body of a request that finds no handler. After a few seconds Kestrel gives up and aborts.
    /// </summary>
    [SkippableFact]
    public async Task BodiesWithoutEnd_ToAPathThatIsNotThere_LeaveNothingBehind()
    {
        Lab.Require();
        await OnXdpAsync(lab, async server =>
        {
            for (int round = 0; round < Rounds; round++)
            {
                await Task.WhenAll(Enumerable.Range(0, Clients).Select(_ => UploadUntilEndAsync(server)));
                await AssertAllHomeAsync(server);
            }
        });
    }

    /// <summary>A pipe that is full leaves what follows with the stack.</summary>
    [SkippableFact]
    public async Task BodiesWithoutEnd_BeforeASmallPipe_LeaveNothingBehind()
    {
        Lab.Require();
        var settings = new HelloWebSettings { Environment = { ["Kestrel__Xdp__MaxReadBufferSize"] = "65536" } };
        await OnXdpAsync(lab.Server, settings, async server =>
        {
            await Task.WhenAll(Enumerable.Range(0, Clients).Select(_ => UploadUntilEndAsync(server)));
            await AssertAllHomeAsync(server);
        });
    }

    private async Task UploadUntilEndAsync(HelloWebServer server)
    {
        using RawHttp http = await RawHttp.ConnectAsync(lab.Client, server.EndPoint);
        await http.WriteAsync("POST /nowhere HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\n\r\n");
        byte[] chunk = [.. "4000\r\n"u8, .. new byte[0x4000], .. "\r\n"u8];
        try
        {
            while (true)
                await http.WriteAsync(chunk);
        }
        catch (SocketException)
        {
            // The reset that this is about.
        }
    }

    private static Task AssertAllHomeAsync(HelloWebServer server) => Eventually.NullAsync(async () =>
    {
        Counters counters = await server.CountersAsync();
        return counters.FramesAtHome == counters.Frames && counters.HeapBlocks == 0
            ? null
            : $"{counters.Frames - counters.FramesAtHome} frames and {counters.HeapBlocks} heap blocks "
                + "are not at home.";
    });
}
