using BenchmarkDotNet.Attributes;
using Xdp.TcpLite;

namespace TcpBenchmarks;

/// <summary>
/// What the protocol costs: requests and responses between two stacks in one thread, without a NIC. One operation is
/// one request and its response, with the work of both ends. These are two segments. Each is written, checksummed,
/// copied to a frame of the other side, checked, delivered, read, and acknowledged by the next one.
/// </summary>
[MemoryDiagnoser]
public class EchoBenchmark
{
    private const int OperationsPerInvoke = 1024;

    private readonly List<TcpConnection> _connections = [];
    private Endpoint _client = null!;
    private Endpoint _server = null!;
    private Instant _now = new(TimeSpan.TicksPerHour);

    [Params(1, 64)]
    public int Connections { get; set; }

    [Params(100)]
    public int Bytes { get; set; }

    [Params(false)]
    public bool Heap { get; set; }

    [GlobalSetup]
    public void Connect()
    {
        _client = new Endpoint("10.0.0.1", 0x020000000001, Heap);
        _server = new Endpoint("10.0.0.2", 0x020000000002, Heap);
        _server.Stack.Listen(default, 80, null);
        for (int i = 0; i < Connections; i++)
        {
            var flow = new FlowKey(_client.Address, _server.Address, (ushort)(10000 + i), 80);
            _connections.Add(_client.Stack.Connect(flow, new LinkPath(_client.Mac, _server.Mac), _now)!);
        }
        for (int i = 0; i < 3; i++)
            Turn();
        while (_server.Stack.TryAccept(out _))
        {
        }
        foreach (TcpConnection connection in _connections)
            _client.Send(connection, Bytes);
    }

    [Benchmark(OperationsPerInvoke = OperationsPerInvoke)]
    public int Echo()
    {
        int done = 0;
        while (done < OperationsPerInvoke)
            done += Turn();
        return done;
    }

    private int Turn()
    {
        _now += TimeSpan.FromMicroseconds(20);
        _client.Exchange(_server, _now);
        _server.Answer(Bytes);
        _server.Exchange(_client, _now);
        int answers = _client.Answer(Bytes);
        if (_client.Stack.NextDeadline <= _now)
            _client.Stack.OnDeadline(_now);
        if (_server.Stack.NextDeadline <= _now)
            _server.Stack.OnDeadline(_now);
        return answers;
    }
}
