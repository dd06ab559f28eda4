namespace Xdp.TcpLite;

/// <summary>Connections first in, first out: a ring that grows to the most that have ever waited.</summary>
internal sealed class ConnectionQueue
{
    private TcpConnection?[] _ring = new TcpConnection?[64];
    private int _first;
    private int _count;

    internal bool IsEmpty => _count == 0;

    /// <summary>The connection that came first. There must be one.</summary>
    internal TcpConnection First => _ring[_first]!;

    internal void Enqueue(TcpConnection connection)
    {
        if (_count == _ring.Length)
            Grow();
        _ring[(_first + _count++) & (_ring.Length - 1)] = connection;
    }

    internal TcpConnection Dequeue()
    {
        ref TcpConnection? slot = ref _ring[_first];
        TcpConnection connection = slot!;
        slot = null;
        _first = (_first + 1) & (_ring.Length - 1);
        _count--;
        return connection;
    }

    private void Grow()
    {
        var ring = new TcpConnection?[_ring.Length * 2];
        for (int i = 0; i < _count; i++)
            ring[i] = _ring[(_first + i) & (_ring.Length - 1)];
        _ring = ring;
        _first = 0;
    }
}

/// <summary>The stack's lists on which a connection is. It is on each once at most.</summary>
[Flags]
internal enum StackLists : byte
{
    None = 0,
    Ready = 1,
    ToEmit = 2,
}
