using System.Numerics;

namespace Xdp.TcpLite;

/// <summary>
/// The connections of a stack that their applications have closed and that still go on. Owns their number, the memory
/// of what their peers have not acknowledged, and the order in which they go when either is too much.
/// </summary>
/// <remarks>
/// Each is in a rank, by the power of two of its memory. The highest rank goes first, and in it the one that entered
/// first. One that makes progress sinks to a lower rank and enters that last. All work is O(1).
/// </remarks>
internal sealed class OrphanTable(TcpStackOptions options)
{
    /// <summary>
    /// Rank of those in FIN-WAIT-2. Their peers have acknowledged everything, so nobody loses data by their end.
    /// </summary>
    private const int Done = 0;

    private readonly EntryList<Orphan>[] _ranks = new EntryList<Orphan>[65];

    internal int Count { get; private set; }

    internal long Memory { get; private set; }

    /// <summary>The one that has to go, while there are too many or they hold too much; else null.</summary>
    internal Orphan? Excess
    {
        get
        {
            if (Memory > options.OrphanMemory)
                return Largest;
            return Count > options.MaxOrphans ? _ranks[Done].Oldest ?? Largest : null;
        }
    }

    private Orphan? Largest
    {
        get
        {
            int rank = _ranks.Length - 1;
            while (rank > 0 && _ranks[rank].Oldest is null)
                rank--;
            return _ranks[rank].Oldest;
        }
    }

    internal void Add(Orphan orphan, long memory, bool isDone)
    {
        Count++;
        Enter(orphan, memory, isDone ? Done : RankOf(memory));
    }

    internal void Remove(Orphan orphan)
    {
        Leave(orphan);
        Count--;
    }

    /// <summary>Some of what it had sent is acknowledged.</summary>
    internal void Resize(Orphan orphan, long memory) => Move(orphan, memory, RankOf(memory));

    /// <summary>Everything is acknowledged, its FIN as well.</summary>
    internal void OnFinAcknowledged(Orphan orphan) => Move(orphan, 0, Done);

    private static int RankOf(long memory) => 1 + BitOperations.Log2((ulong)memory + 1);

    private void Move(Orphan orphan, long memory, int rank)
    {
        if (orphan.Rank == rank)
        {
            Memory += memory - orphan.Memory;
            orphan.Memory = memory;
            return;
        }
        Leave(orphan);
        Enter(orphan, memory, rank);
    }

    private void Enter(Orphan orphan, long memory, int rank)
    {
        Memory += memory;
        (orphan.Memory, orphan.Rank) = (memory, rank);
        _ranks[rank].Add(orphan);
    }

    private void Leave(Orphan orphan)
    {
        Memory -= orphan.Memory;
        _ranks[orphan.Rank].Remove(orphan);
    }
}
