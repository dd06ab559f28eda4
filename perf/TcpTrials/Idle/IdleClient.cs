using System.CommandLine;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace TcpTrials.Idle;

/// <summary>Opens connections, sends one request on each, and holds them.</summary>
internal static class IdleClient
{
    private static readonly byte[] s_request = Encoding.ASCII.GetBytes("GET / HTTP/1.1\r\nHost: lab\r\n\r\n");

    public static Command Create()
    {
        var target = new Option<string>("--target") { Required = true };
        var command = new Command("idle-client") { target };
        command.Hidden = true;
        command.SetAction(parsed => Run(IPEndPoint.Parse(parsed.GetRequiredValue(target))));
        return command;
    }

    private static int Run(IPEndPoint target)
    {
        var sockets = new List<Socket>();
        Console.WriteLine("ready");
        while (Console.ReadLine() is { } line)
        {
            if (line == "close")
            {
                Close(sockets);
                Console.WriteLine("closed");
                continue;
            }

            var (opened, failures) =
                ManyConnections.Open(target, int.Parse(line) - sockets.Count, static _ => { }, Request);
            sockets.AddRange(opened);
            Console.WriteLine($"connected {sockets.Count} {failures}");
        }

        return 0;
    }

    private static void Request(Socket socket)
    {
        Span<byte> answer = stackalloc byte[4096];
        socket.Send(s_request);
        if (socket.Receive(answer) == 0)
            throw new SocketException((int)SocketError.ConnectionReset);
    }

    // By FIN, both ways. A socket that is closed with the rest of a response unread sends a RST instead. With so many
    // at once a RST may be lost, nobody sends it again, and the server keeps the connection for ever.
    private static void Close(List<Socket> sockets)
    {
        byte[] buffer = new byte[4096];
        foreach (var socket in sockets)
            socket.Shutdown(SocketShutdown.Send);
        foreach (var socket in sockets)
        {
            try
            {
                while (socket.Receive(buffer) > 0)
                {
                }
            }
            catch (SocketException)
            {
                // Nothing to do here: the server counts what is left open.
            }

            socket.Dispose();
        }

        sockets.Clear();
    }
}
