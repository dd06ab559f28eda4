namespace Xdp.TcpLite.Tests.Simulation;

/// <summary>
/// Two hosts on a link, on virtual time: runs until an application says that it is done, or nothing more can happen.
/// </summary>
internal sealed class Network
{
    private readonly PriorityQueue<(SimHost To, byte[] Packet), (Instant At, long Order)> _inFlight = new();
    private readonly Random _random;
    private long _order;

    internal Network(
        int seed, LinkOptions? up = null, LinkOptions? down = null, TcpStackOptions? client = null,
        TcpStackOptions? server = null, bool ipv6 = false, int frames = 4096, int completionLag = 0,
        int partLength = SimHost.FrameSize)
    {
        _random = new Random(seed);
        Up = new SimLink(up ?? new LinkOptions(), _random);
        Down = new SimLink(down ?? up ?? new LinkOptions(), _random);
        Client = Host("client", 1, client);
        Server = Host("server", 2, server);
        Server.Stack.Listen(default, 80, null);

        SimHost Host(string name, byte number, TcpStackOptions? options) => new(
            name,
            Address(number, ipv6),
            0x02_00_00_00_00_00 + (ulong)number,
            options ?? new TcpStackOptions(),
            frames,
            secret: number)
        {
            CompletionLag = completionLag,
            PartLength = partLength,
        };
    }

    internal SimHost Client { get; }
    internal SimHost Server { get; }

    /// <summary>Client to server.</summary>
    internal SimLink Up { get; }

    /// <summary>Server to client.</summary>
    internal SimLink Down { get; }

    internal Instant Now { get; private set; } = new(TimeSpan.TicksPerHour);

    private static IpAddr Address(int host, bool ipv6) =>
        IpAddr.From(System.Net.IPAddress.Parse(ipv6 ? $"fd00::{host}" : $"10.0.0.{host}"));

    internal TcpConnection Connect(ushort port) => Client.Stack.Connect(
        new FlowKey(Client.Address, Server.Address, port, 80),
        Client.Stack.Options.Link == LinkType.Ip ? LinkPath.IpOnly : new LinkPath(Client.Mac, Server.Mac),
        Now)
        ?? throw new InvalidOperationException($"port {port} is in use");

    /// <summary>Runs until <paramref name="step"/>, called whenever something has happened, returns true.</summary>
    /// <returns>False when virtual time ran past <paramref name="limit"/>, or nothing can happen any more.</returns>
    internal bool Run(Func<bool> step, TimeSpan? limit = null)
    {
        Instant end = Now + (limit ?? TimeSpan.FromHours(1));
        while (true)
        {
            if (step())
                return true;
            Client.Emit(Now, packet =>
                Up.Send(packet, Now, (p, at) => Schedule(Server, p, at), (p, at) => Schedule(Client, p, at)));
            Server.Emit(Now, packet =>
                Down.Send(packet, Now, (p, at) => Schedule(Client, p, at), (p, at) => Schedule(Server, p, at)));
            Instant next = Instant.Min(Client.Stack.NextDeadline, Server.Stack.NextDeadline);
            if (_inFlight.TryPeek(out _, out var first))
                next = Instant.Min(next, first.At);
            if (next == Instant.Never || next > end)
                return false;
            Now = Instant.Max(Now, next);
            while (_inFlight.TryPeek(out var item, out var key) && key.At <= Now)
            {
                _inFlight.Dequeue();
                item.To.Deliver(item.Packet, Now);
            }
            Client.Stack.OnDeadline(Now);
            Server.Stack.OnDeadline(Now);
        }
    }

    /// <summary>Runs for a time, however little happens in it.</summary>
    internal void RunFor(TimeSpan span, Action step)
    {
        Instant end = Now + span;
        Run(
            () =>
            {
                step();
                return false;
            },
            span);
        Now = end;
    }

    /// <summary>Lets every timer run out, TIME-WAIT included, and reports completions.</summary>
    internal void Settle()
    {
        Run(() => false);
        Client.Complete(0);
        Server.Complete(0);
    }

    private void Schedule(SimHost to, byte[] packet, Instant at) => _inFlight.Enqueue((to, packet), (at, _order++));
}
