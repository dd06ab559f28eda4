namespace Xdp.TcpLite.Tests.Simulation;

/// <summary>Flows from the client to the server of a <see cref="Network"/>, one or many.</summary>
internal sealed class Flows
{
    private readonly Network _network;
    private readonly Dictionary<TcpConnection, SimApplication> _applications = [];
    private readonly long _bytes;
    private readonly long _mostPerRead;

    internal Flows(Network network, int count, long bytes, long sendBuffer = 1 << 20, long mostPerRead = long.MaxValue)
    {
        _network = network;
        _bytes = bytes;
        _mostPerRead = mostPerRead;
        for (int i = 0; i < count; i++)
        {
            TcpConnection connection = network.Connect((ushort)(40000 + i));
            _applications.Add(connection, new SimApplication(network.Client, connection, 40000 + i, -40000 - i, bytes)
            {
                SendBuffer = sendBuffer,
            });
        }
        Count = count;
    }

    internal int Count { get; }

    /// <summary>The servers' ends, in the order of their clients' ports.</summary>
    internal SortedDictionary<int, SimApplication> Servers { get; } = [];

    internal IEnumerable<SimApplication> Clients =>
        _applications.Values.Where(application => application.Connection.Flow.RemotePort == 80);

    /// <summary>When the server had the last byte of the first flow, and of all.</summary>
    internal Instant? FirstDone { get; private set; }
    internal Instant? AllDone { get; private set; }

    /// <summary>What each had when the first was done.</summary>
    internal long[] AtFirstDone { get; private set; } = [];

    /// <summary>Runs until all flows are closed; false when they stall.</summary>
    internal bool Run(Action? each = null, TimeSpan? limit = null) => _network.Run(() =>
    {
        each?.Invoke();
        Step();
        return Servers.Count == Count && Clients.All(c => c.Closed) && Servers.Values.All(s => s.Closed);
    }, limit);

    private void Step()
    {
        while (_network.Server.Stack.TryAccept(out TcpConnection? accepted))
        {
            int port = accepted.Flow.RemotePort;
            var server = new SimApplication(_network.Server, accepted, -port, port, 0)
            {
                ShutdownWhenDone = true,
                MostPerRead = _mostPerRead,
            };
            Servers.Add(port, server);
            _applications.Add(accepted, server);
        }
        foreach (SimHost host in new[] { _network.Client, _network.Server })
        {
            while (host.Stack.TryTakeReady(out TcpConnection connection))
            {
                TcpEvents events = connection.TakeEvents();
                if (_applications.TryGetValue(connection, out SimApplication? application))
                    application.Step(events);
            }
        }
        foreach (SimApplication application in _applications.Values)
            application.Step(TcpEvents.None);
        if (FirstDone is null && Servers.Values.Any(s => s.Received == _bytes))
        {
            FirstDone = _network.Now;
            AtFirstDone = [.. Servers.Values.Select(s => s.Received)];
        }
        if (AllDone is null && Servers.Count == Count && Servers.Values.All(s => s.Received == _bytes))
            AllDone = _network.Now;
    }

    /// <summary>
    /// Jain's index of what each flow had received when the first was done: 1 means equal shares, 1/n that one took
    /// all.
    /// </summary>
    internal double Fairness
    {
        get
        {
            double sum = AtFirstDone.Sum();
            return sum * sum / (Count * AtFirstDone.Sum(x => (double)x * x));
        }
    }
}
