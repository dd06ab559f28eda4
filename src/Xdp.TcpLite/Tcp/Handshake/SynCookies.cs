namespace Xdp.TcpLite;

/// <summary>What a SYN cookie has kept of the SYN's options.</summary>
internal struct SynCookieOptions
{
    /// <summary>At most what the SYN said.</summary>
    public ushort Mss;
    public bool HasTimestamps;

    /// <summary>The options from here on are kept only with timestamps.</summary>
    public bool HasWindowScale;
    public byte WindowScale;
    public bool SackPermitted;
    public bool Ecn;
}

/// <summary>
/// The numbers that carry a handshake which nobody remembers (RFC 4987, section 3.6), in Linux's layout. The initial
/// sequence number is made of a keyed hash of the flow and the peer's ISN, a counter of 64 s, and an index into a table
/// of MSS values. The other options ride in the low bits of TSval, when there is one, and come back as TSecr.
/// <see cref="CookieHandshake"/> decides when it is used.
/// </summary>
/// <param name="secret">16 bytes or more, shared by the stacks that may see each other's flows.</param>
internal sealed class SynCookies(ReadOnlySpan<byte> secret)
{
    private const long TicksPerCount = 64 * TimeSpan.TicksPerSecond;

    /// <summary>A cookie is good in the count in which it was made and in the next one: for 64 s to 128 s.</summary>
    private const uint MaxAge = 2;

    /// <summary>No cookie is good for longer.</summary>
    internal static readonly TimeSpan Lifetime = TimeSpan.FromTicks(MaxAge * TicksPerCount);

    private const uint DataMask = 0xffffff;

    private const int TimestampBits = 6;
    private const uint TimestampMask = (1 << TimestampBits) - 1;
    private const uint WindowScaleMask = 0xf;

    /// <summary>In the place of a window scale: none was offered. The largest scale is 14.</summary>
    private const uint NoWindowScale = 0xf;
    private const uint SackBit = 1 << 4;
    private const uint EcnBit = 1 << 5;

    private static ReadOnlySpan<ushort> MssTable => [48, 216, 536, 1220, 1300, 1420, 1440, 1460];

    private readonly KeyedHash _base = KeyedHash.Derive(secret, KeyPurpose.SynCookieBase);
    private readonly KeyedHash _count = KeyedHash.Derive(secret, KeyPurpose.SynCookieCount);

    /// <summary>The initial sequence number of the SYN-ACK that answers <paramref name="syn"/>.</summary>
    /// <param name="syn">The peer's SYN.</param>
    /// <param name="now">The present.</param>
    /// <param name="timestamp">The TSval that the SYN-ACK would carry without a cookie.</param>
    /// <param name="tsVal">
    /// The TSval to send, at most 64 before <paramref name="timestamp"/>. It means something only when the SYN has
    /// timestamps.
    /// </param>
    public SeqNumber Make(in Packet syn, Instant now, uint timestamp, out uint tsVal)
    {
        tsVal = (timestamp & ~TimestampMask) | EncodeOptions(syn);
        if (unchecked((int)(tsVal - timestamp)) > 0)
            tsVal -= 1 << TimestampBits;
        uint count = CountAt(now);
        uint data = (CountHash(syn.Flow, count) + MssIndex(syn)) & DataMask;
        return new SeqNumber(Base(syn.Flow, syn.Seq) + (count << 24) + data);
    }

    /// <summary>
    /// Does <paramref name="ack"/> acknowledge a cookie of ours that is not too old? Then its SEG.SEQ − 1 is the peer's
    /// ISN, and its SEG.ACK − 1 is ours.
    /// </summary>
    public bool TryCheck(in Packet ack, Instant now, out SynCookieOptions options)
    {
        options = default;
        uint cookie = (ack.Ack - 1).Value - Base(ack.Flow, ack.Seq - 1);
        uint age = (CountAt(now) - (cookie >> 24)) & 0xff;
        if (age >= MaxAge)
            return false;
        uint index = (cookie - CountHash(ack.Flow, CountAt(now) - age)) & DataMask;
        if (index >= (uint)MssTable.Length)
            return false;
        options.Mss = MssTable[(int)index];

        // A peer that was sent no timestamp, and sends one all the same, has nothing but zero to echo.
        if (ack.HasTimestamps && ack.TsEcr != 0)
            DecodeOptions(ack.TsEcr, ref options);
        return true;
    }

    private static uint CountAt(Instant now) => (uint)(now.Ticks / TicksPerCount);

    private uint Base(in FlowKey flow, SeqNumber peerIsn) => (uint)_base.Hash24(flow, 0) + peerIsn.Value;

    private uint CountHash(in FlowKey flow, uint count) => (uint)_count.Hash24(flow, count);

    private static uint MssIndex(in Packet syn)
    {
        int mss = syn.Mss != 0 ? syn.Mss : SynOptions.DefaultMss(syn.Flow);
        int index = MssTable.Length - 1;
        while (index > 0 && MssTable[index] > mss)
            index--;
        return (uint)index;
    }

    private static uint EncodeOptions(in Packet syn)
    {
        uint bits = syn.HasWindowScale ? syn.WindowScale : NoWindowScale;
        if (syn.SackPermitted)
            bits |= SackBit;
        if (SynOptions.AsksForEcn(syn))
            bits |= EcnBit;
        return bits;
    }

    private static void DecodeOptions(uint tsEcr, ref SynCookieOptions options)
    {
        uint scale = tsEcr & WindowScaleMask;
        options.HasTimestamps = true;
        options.HasWindowScale = scale != NoWindowScale;
        options.WindowScale = options.HasWindowScale ? (byte)scale : (byte)0;
        options.SackPermitted = (tsEcr & SackBit) != 0;
        options.Ecn = (tsEcr & EcnBit) != 0;
    }
}
