using System.Runtime.CompilerServices;

namespace Xdp.TcpLite;

/// <summary>
/// The blocks of one SACK option (RFC 2018), in the option's order. <c>Right</c> is the first sequence number behind
/// the block.
/// </summary>
internal struct SackBlocks
{
    /// <summary>As many as 40 bytes of options hold.</summary>
    internal const int Capacity = 4;

    private Storage _blocks;

    public int Count { get; private set; }

    public readonly (SeqNumber Left, SeqNumber Right) this[int index]
    {
        get
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)index, (uint)Count);
            return _blocks[index];
        }
    }

    /// <summary>Appends a block; false when there is no room.</summary>
    public bool Add(SeqNumber left, SeqNumber right)
    {
        if (Count == Capacity)
            return false;
        _blocks[Count++] = (left, right);
        return true;
    }

    public void Clear() => Count = 0;

    [InlineArray(Capacity)]
    private struct Storage
    {
        private (SeqNumber Left, SeqNumber Right) _first;
    }
}
