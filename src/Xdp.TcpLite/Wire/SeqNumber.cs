namespace Xdp.TcpLite;

/// <summary>
/// A TCP sequence number (RFC 9293, section 3.4): 32 bits that wrap around. Comparisons hold for numbers less than 2^31
/// apart; they are no total order, and so this is not <see cref="IComparable{T}"/>.
/// </summary>
public readonly record struct SeqNumber(uint Value)
{
    public static SeqNumber operator +(SeqNumber seq, int count) => new(unchecked(seq.Value + (uint)count));
    public static SeqNumber operator +(SeqNumber seq, uint count) => new(unchecked(seq.Value + count));
    public static SeqNumber operator -(SeqNumber seq, int count) => new(unchecked(seq.Value - (uint)count));
    public static SeqNumber operator -(SeqNumber seq, uint count) => new(unchecked(seq.Value - count));

    /// <summary>
    /// Bytes from <paramref name="right"/> to <paramref name="left"/>. Negative when <paramref name="left"/> comes
    /// first.
    /// </summary>
    public static int operator -(SeqNumber left, SeqNumber right) => unchecked((int)(left.Value - right.Value));

    public static bool operator <(SeqNumber left, SeqNumber right) => left - right < 0;
    public static bool operator >(SeqNumber left, SeqNumber right) => left - right > 0;
    public static bool operator <=(SeqNumber left, SeqNumber right) => left - right <= 0;
    public static bool operator >=(SeqNumber left, SeqNumber right) => left - right >= 0;

    public static SeqNumber Min(SeqNumber left, SeqNumber right) => left < right ? left : right;
    public static SeqNumber Max(SeqNumber left, SeqNumber right) => left > right ? left : right;

    public override string ToString() => Value.ToString(System.Globalization.CultureInfo.InvariantCulture);
}
