using System.CommandLine;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace TcpTrials.Orphans;

/// <summary>
/// Opens connections that the server closes, and does not let go of them: it never reads, or it goes on uploading.
/// </summary>
internal static class OrphansClient
{
    // The kernel doubles it. The window that follows holds the head of the response, and little of its body.
    private const int ReceiveBuffer = 4096;

    // Of a body that never ends, for each connection at a time.
    private const int Piece = 1024;

    private static readonly TimeSpan s_answerTime = TimeSpan.FromSeconds(30);

    public static Command Create()
    {
        var target = new Option<string>("--target") { Required = true };
        var request = new Option<string>("--request") { Required = true };
        var connections = Trial.Option("--connections", "how many", 10_000);
        var rate = Trial.Option("--rate", "bytes a second to upload on all connections; 0 uploads nothing", 0);
        var command = new Command("orphans-client") { target, request, connections, rate };
        command.Hidden = true;
        command.SetAction((parsed, cancellation) => Task.Run(
            () => Run(
                IPEndPoint.Parse(parsed.GetRequiredValue(target)),
                Encoding.ASCII.GetBytes(parsed.GetRequiredValue(request) + "\r\n\r\n"),
                parsed.GetValue(connections),
                parsed.GetValue(rate),
                cancellation),
            CancellationToken.None));
        return command;
    }

    private static int Run(
        IPEndPoint target, byte[] request, int connections, int rate, CancellationToken cancellation)
    {
        Console.WriteLine("ready");
        Console.ReadLine();
        var (sockets, failures) = ManyConnections.Open(
            target,
            connections,
            static socket => socket.ReceiveBufferSize = ReceiveBuffer,
            socket =>
            {
                socket.Send(request);
                if (!socket.Poll(s_answerTime, SelectMode.SelectRead))
                    throw new SocketException((int)SocketError.TimedOut);
            });
        Console.WriteLine($"connected {sockets.Count} {failures}");
        if (rate > 0)
            Upload(sockets, rate, cancellation);
        cancellation.WaitHandle.WaitOne();
        return 0;
    }

    /// <summary>Sends on each in turn, until all of them have been reset.</summary>
    private static void Upload(List<Socket> sockets, int rate, CancellationToken cancellation)
    {
        byte[] piece = new byte[Piece];
        var clock = Stopwatch.StartNew();
        long sent = 0;
        sockets.ForEach(static socket => socket.Blocking = false);
        while (sockets.Count > 0)
        {
            sockets.RemoveAll(socket =>
            {
                while (clock.Elapsed.TotalSeconds * rate < sent)
                {
                    if (cancellation.WaitHandle.WaitOne(1))
                        return false;
                }

                sent += Piece;
                socket.Send(piece, SocketFlags.None, out var error);
                if (error is SocketError.Success or SocketError.WouldBlock)
                    return false;
                socket.Dispose();
                return true;
            });
            if (cancellation.IsCancellationRequested)
                return;
        }
    }
}
