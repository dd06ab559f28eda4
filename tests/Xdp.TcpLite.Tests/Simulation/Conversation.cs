namespace Xdp.TcpLite.Tests.Simulation;

/// <summary>
/// Requests of the server's side and answers of the client's over one connection, each request after the answer to the
/// one before, and a pause.
/// </summary>
internal static class Conversation
{
    private const int Request = 100;

    /// <summary>How long it took from the requests to the last bytes of their answers, in all.</summary>
    internal static TimeSpan Run(Network network, int answers, int bytes, TimeSpan pause)
    {
        TcpConnection client = network.Connect(40000);
        TcpConnection? server = null;
        TimeSpan sum = TimeSpan.Zero;
        Instant begin = network.Now;
        long answered = 0, requested = 0;
        int begun = 0;
        // Nothing may have a deadline when a pause is over, so time goes on in small steps.
        while (begun < answers || answered < (long)answers * bytes)
            network.RunFor(TimeSpan.FromMilliseconds(1), Step);
        return sum;

        void Step()
        {
            if (network.Server.Stack.TryAccept(out TcpConnection? accepted))
                server = accepted;
            if (server is null)
                return;
            long had = answered;
            answered += Read(server);
            if (answered > had && answered == (long)begun * bytes)
            {
                sum += network.Now - begin;
                begin = network.Now;
            }
            if (answered == (long)begun * bytes && begun < answers && network.Now - begin >= pause)
            {
                begun++;
                begin = network.Now;
                Write(network.Server, server, Request);
            }
            requested += Read(client);
            for (; requested >= Request; requested -= Request)
                Write(network.Client, client, bytes);
        }
    }

    private static long Read(TcpConnection connection)
    {
        BlockQueue data = connection.TakeReceived(long.MaxValue);
        long count = data.Bytes;
        while (data.Dequeue() is { } block)
            block.Return();
        if (count > 0)
            connection.ReleaseWindow(count);
        return count;
    }

    private static void Write(SimHost host, TcpConnection connection, int bytes)
    {
        BlockQueue data = default;
        for (int left = bytes; left > 0;)
        {
            Block block = host.Blocks.Take();
            block.Length = Math.Min(left, block.Room);
            left -= block.Length;
            data.Enqueue(block);
        }
        connection.Write(ref data);
    }
}
