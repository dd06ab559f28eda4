using System.Numerics;

namespace Xdp.TcpLite;

/// <summary>
/// A hierarchical timer wheel (Varghese and Lauck, 1987): ticks of 1 ms, four levels of 256 slots, 24 days. An entry
/// fires at its deadline or less than a tick later, never before. Called by the stack's turn.
/// </summary>
/// <remarks>
/// Scheduling, cancelling and putting off are O(1). Putting off does not move the entry: when the wheel comes to it
/// before its deadline, the wheel files it again.
/// </remarks>
internal sealed class TimerWheel
{
    private const int Levels = 4;
    private const int SlotBits = 8;
    private const int Slots = 1 << SlotBits;
    private const int WordsPerLevel = Slots / 64;
    private const long TicksPerTick = TimeSpan.TicksPerMillisecond;

    /// <summary>How late an entry may fire.</summary>
    internal static readonly TimeSpan Tick = new(TicksPerTick);

    /// <summary>
    /// How far ahead entries are filed, in ticks. What lies beyond is filed again on the way. It is half of what the
    /// levels cover, so that the distance of two ticks fits an int.
    /// </summary>
    private const long Horizon = 1L << (Levels * SlotBits - 1);

    private readonly Instant _origin;

    /// <summary>Heads of circular lists, level by level.</summary>
    private readonly Head[] _slots = new Head[Levels * Slots];

    /// <summary>
    /// A bit for each slot that may hold entries. It is cleared when the slot is emptied, not when the last entry is
    /// cancelled.
    /// </summary>
    private readonly ulong[] _occupied = new ulong[Levels * WordsPerLevel];

    /// <summary>Entries whose slot has come: each is due, or has to be filed again.</summary>
    private readonly Head _met = new();

    /// <summary>Every slot that starts at this tick or before has been emptied.</summary>
    private long _tick;

    /// <summary>No occupied slot starts before this tick.</summary>
    private long _nextTick = long.MaxValue;

    public TimerWheel(Instant origin)
    {
        _origin = origin;
        for (int i = 0; i < _slots.Length; i++)
            _slots[i] = new Head();
    }

    /// <summary>
    /// When <see cref="TakeExpired"/> has to be called next. It may be before any entry is due, and is never after.
    /// </summary>
    public Instant NextDeadline
    {
        get
        {
            if (!_met.IsEmpty)
                return InstantOf(_tick);
            return _nextTick == long.MaxValue ? Instant.Never : InstantOf(_nextTick);
        }
    }

    /// <summary>
    /// Sets the entry's deadline, for the first time or anew. <see cref="Instant.Never"/> cancels it.
    /// </summary>
    public void Schedule(TimerEntry entry, Instant at)
    {
        if (at == Instant.Never)
        {
            Cancel(entry);
            return;
        }
        entry.WheelDeadline = at;
        if (entry.IsScheduled)
        {
            if (DueTick(at) >= _tick + (int)(entry.LookTick - (uint)_tick))
                return;
            Unlink(entry);
        }
        File(entry);
    }

    public void Cancel(TimerEntry entry)
    {
        entry.WheelDeadline = Instant.Never;
        if (entry.IsScheduled)
            Unlink(entry);
    }

    /// <summary>Takes an entry that is due out of the wheel, earlier ticks first. Null when none is left.</summary>
    public TimerEntry? TakeExpired(Instant now)
    {
        long nowTick = Math.Max(_tick, FloorTick(now));
        while (true)
        {
            while (!_met.IsEmpty)
            {
                TimerEntry entry = _met.Next!;
                Unlink(entry);
                if (DueTick(entry.WheelDeadline) <= _tick)
                {
                    entry.WheelDeadline = Instant.Never;
                    return entry;
                }
                File(entry);
            }
            if (_nextTick > nowTick)
            {
                _tick = nowTick;
                return null;
            }
            long next = FirstOccupiedTick();
            if (next <= nowTick)
                Advance(next);
            _nextTick = FirstOccupiedTick();
        }
    }

    private Instant InstantOf(long tick) => new(_origin.Ticks + tick * TicksPerTick);

    private long FloorTick(Instant at) => (at.Ticks - _origin.Ticks) / TicksPerTick;

    /// <summary>The first tick that is not before the instant.</summary>
    private long DueTick(Instant at)
    {
        long ticks = at.Ticks - _origin.Ticks;
        return ticks <= 0 ? 0 : (ticks - 1) / TicksPerTick + 1;
    }

    private void File(TimerEntry entry)
    {
        long due = DueTick(entry.WheelDeadline);
        long delta = due - _tick;
        if (delta <= 0)
        {
            entry.LookTick = (uint)_tick;
            Append(_met, entry);
            return;
        }
        if (delta >= Horizon)
        {
            delta = Horizon - 1;
            due = _tick + delta;
        }
        int level = BitOperations.Log2((ulong)delta) / SlotBits;
        long position = due >> (level * SlotBits);
        int slot = (int)(position & (Slots - 1));
        long look = position << (level * SlotBits);
        entry.LookTick = (uint)look;
        _nextTick = Math.Min(_nextTick, look);
        _occupied[level * WordsPerLevel + slot / 64] |= 1UL << slot;
        Append(_slots[level * Slots + slot], entry);
    }

    /// <summary>
    /// Moves time to <paramref name="tick"/> and empties the slots that start there. No occupied slot starts earlier.
    /// </summary>
    private void Advance(long tick)
    {
        _tick = tick;
        for (int level = Levels - 1; level >= 0; level--)
        {
            long position = tick >> (level * SlotBits);
            if (position << (level * SlotBits) != tick)
                continue;
            int slot = (int)(position & (Slots - 1));
            ref ulong word = ref _occupied[level * WordsPerLevel + slot / 64];
            if ((word & 1UL << slot) == 0)
                continue;
            word &= ~(1UL << slot);
            Splice(_slots[level * Slots + slot], _met);
        }
    }

    /// <summary>
    /// The start of the occupied slot that starts first; <see cref="long.MaxValue"/> when all are empty.
    /// </summary>
    private long FirstOccupiedTick()
    {
        long first = long.MaxValue;
        for (int level = 0; level < Levels; level++)
        {
            long position = _tick >> (level * SlotBits);
            int distance = DistanceToOccupied(level, (int)(position + 1) & (Slots - 1));
            if (distance >= 0)
                first = Math.Min(first, (position + 1 + distance) << (level * SlotBits));
        }
        return first;
    }

    /// <summary>
    /// Slots from <paramref name="from"/> to the next occupied one, all round the level; -1 when there is none.
    /// </summary>
    private int DistanceToOccupied(int level, int from)
    {
        ReadOnlySpan<ulong> words = _occupied.AsSpan(level * WordsPerLevel, WordsPerLevel);
        for (int i = 0; i <= WordsPerLevel; i++)
        {
            int index = (from / 64 + i) % WordsPerLevel;
            ulong word = words[index];
            if (i == 0)
                word &= ulong.MaxValue << from;
            if (word != 0)
                return (index * 64 + BitOperations.TrailingZeroCount(word) - from) & (Slots - 1);
        }
        return -1;
    }

    private static void Append(Head head, TimerEntry entry)
    {
        TimerEntry last = head.Previous!;
        entry.Previous = last;
        entry.Next = head;
        last.Next = entry;
        head.Previous = entry;
    }

    private static void Unlink(TimerEntry entry)
    {
        entry.Previous!.Next = entry.Next;
        entry.Next!.Previous = entry.Previous;
        entry.Previous = null;
        entry.Next = null;
    }

    private static void Splice(Head from, Head to)
    {
        if (from.IsEmpty)
            return;
        TimerEntry first = from.Next!;
        TimerEntry last = from.Previous!;
        first.Previous = to.Previous;
        to.Previous!.Next = first;
        last.Next = to;
        to.Previous = last;
        from.Clear();
    }

    private sealed class Head : TimerEntry
    {
        public Head() => Clear();

        public bool IsEmpty => ReferenceEquals(Next, this);

        public void Clear()
        {
            Next = this;
            Previous = this;
        }
    }
}
