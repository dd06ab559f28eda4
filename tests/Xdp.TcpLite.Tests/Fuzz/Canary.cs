using Xdp.TcpLite.Tests.Hostile;
using Xdp.TcpLite.Tests.Simulation;

namespace Xdp.TcpLite.Tests.Fuzz;

/// <summary>
/// A connection between the fuzzed stack and a stack of its own. Nobody touches it, so what is written to it must
/// always come back.
/// </summary>
internal sealed class Canary
{
    private const ushort Port = 82;
    private const int Size = 700;

    private readonly FuzzHost _server;
    private readonly FuzzHost _client;
    private readonly TcpConnection _out;
    private readonly Queue<(bool ToServer, byte[] Packet)> _wire = new();
    private TcpConnection? _in;
    private long _written;
    private long _read;

    internal Canary(FuzzHost server, int seed, ref Instant now)
    {
        _server = server;
        _client = new FuzzHost(
            IpAddr.FromIPv4(0x0a0000fe), 0x02_00_00_00_00_fe, new TcpStackOptions(), (byte)~seed, now, frames: 32);
        server.Stack.Listen(default, Port, this);
        var flow = new FlowKey(_client.Address, server.Address, 61234, Port);
        _out = _client.Stack.Connect(flow, new LinkPath(_client.Mac, server.Mac), now)!;
        Pump(now);
        Invariants.Hold(_in is not null, _out, "the canary could not connect");
        Exchange(ref now);
    }

    /// <summary>Sends some bytes and waits for their echo.</summary>
    internal void Exchange(ref Instant now)
    {
        _client.Stack.OnDeadline(now);
        _server.Stack.OnDeadline(now);
        Block block = _client.Blocks.Take();
        for (int i = 0; i < Size; i++)
            block.Span[i] = SimApplication.Pattern(7, _written + i);
        block.Length = Size;
        _written += Size;
        BlockQueue data = default;
        data.Enqueue(block);
        _out.Write(ref data);
        for (int i = 0; ; i++)
        {
            Pump(now);
            if (_read == _written && _in!.UnacknowledgedBytes == 0)
                break;
            Invariants.Hold(
                i < 50 && _out.State == TcpState.Established,
                _out,
                $"the canary has {_read} of {_written} bytes, its other end is {_in!.GetInfo(now)}");
            // A frame was missing, or an ACK is delayed: what timers are for.
            now += TimeSpan.FromMilliseconds(50);
            _server.Stack.OnDeadline(now);
            _client.Stack.OnDeadline(now);
        }
    }

    /// <summary>Something that the server sent outside an exchange.</summary>
    internal void Take(ReadOnlySpan<byte> frame)
    {
        if (IsMine(frame))
            _wire.Enqueue((false, frame.ToArray()));
    }

    internal void OnDeadline(Instant now)
    {
        if (_client.Stack.NextDeadline <= now || _wire.Count > 0)
        {
            _client.Stack.OnDeadline(now);
            Pump(now);
        }
    }

    private static bool IsMine(ReadOnlySpan<byte> frame) => frame.Length > 34 && frame[33] == 0xfe;

    internal void Close(ref Instant now)
    {
        _out.Close();
        _in!.Close();
        for (int i = 0; i < 100 && _server.Stack.Owns(_in.Flow); i++)
        {
            Pump(now);
            now += TimeSpan.FromSeconds(1);
            _client.Stack.OnDeadline(now);
            _server.Stack.OnDeadline(now);
        }
        Pump(now);
    }

    private void Pump(Instant now)
    {
        do
        {
            while (_wire.TryDequeue(out var item))
                (item.ToServer ? _server : _client).Deliver(item.Packet, now);
            Serve();
            _client.Emit(now, frame => _wire.Enqueue((true, frame.ToArray())), 100);
            // The server also sends to others: only what is the canary's goes on.
            _server.Emit(now, Take, 10_000);
        }
        while (_wire.Count > 0);
    }

    private void Serve()
    {
        if (_in is null && _server.Stack.TryAccept(out TcpConnection? accepted))
            _in = accepted;
        while (_client.Stack.TryTakeReady(out TcpConnection connection))
            connection.TakeEvents();
        if (_in is not null)
        {
            BlockQueue echo = default;
            BlockQueue taken = _in.TakeReceived(long.MaxValue);
            long bytes = taken.Bytes;
            while (taken.Dequeue() is { } received)
            {
                Block copy = _server.Blocks.Take();
                copy.Append(received.Bytes);
                received.Return();
                echo.Enqueue(copy);
            }
            _in.Write(ref echo);
            if (bytes > 0)
                _in.ReleaseWindow(bytes);
        }
        BlockQueue answer = _out.TakeReceived(long.MaxValue);
        long answered = answer.Bytes;
        while (answer.Dequeue() is { } block)
        {
            foreach (byte actual in block.Bytes)
                Invariants.Hold(actual == SimApplication.Pattern(7, _read++), _out, "the canary's bytes have changed");
            block.Return();
        }
        if (answered > 0)
            _out.ReleaseWindow(answered);
    }
}
