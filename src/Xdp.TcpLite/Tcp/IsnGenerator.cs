namespace Xdp.TcpLite;

/// <summary>
/// Initial sequence numbers and timestamp offsets that only those who know the secret can predict (RFC 6528; RFC 7323,
/// section 5.4).
/// </summary>
/// <param name="secret">16 bytes or more, shared by the stacks that may see each other's flows.</param>
internal sealed class IsnGenerator(ReadOnlySpan<byte> secret)
{
    /// <summary>
    /// One sequence number each 4 µs (RFC 9293, section 3.4.1): a flow's next ISN lies ahead of its last one's bytes.
    /// </summary>
    private const long TicksPerSequenceNumber = 4 * TimeSpan.TicksPerMicrosecond;

    private readonly KeyedHash _sequence = KeyedHash.Derive(secret, KeyPurpose.InitialSequence);
    private readonly KeyedHash _timestamp = KeyedHash.Derive(secret, KeyPurpose.TimestampOffset);

    /// <summary>ISN = M + F(flow).</summary>
    public SeqNumber Next(in FlowKey flow, Instant now) =>
        new SeqNumber((uint)_sequence.Hash24(flow, 0)) + (uint)(now.Ticks / TicksPerSequenceNumber);

    /// <summary>
    /// What is added to the clock to make a flow's TSval: the same for every connection with that 4-tuple, so that its
    /// timestamps never go back.
    /// </summary>
    public uint TimestampOffset(in FlowKey flow) => (uint)_timestamp.Hash24(flow, 0);
}
