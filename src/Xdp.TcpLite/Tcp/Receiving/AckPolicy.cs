using System.Runtime.InteropServices;

namespace Xdp.TcpLite;

/// <summary>
/// When to acknowledge. Every second full segment is acknowledged at once, the others after a delay (RFC 9293, section
/// 3.8.6.3; RFC 5681, section 4.2). There is no delay where something is missing, has come twice, or the peer repairs a
/// loss, and only a moment's delay at a connection's start. Also keeps what only a bare ACK can say: D-SACK (RFC 2883)
/// and, to a peer without SACK, each duplicate ACK.
/// </summary>
[StructLayout(LayoutKind.Auto)]
internal struct AckPolicy()
{
    /// <summary>
    /// Segments of a batch that share an ACK. RFC 5681 has two; this is more, since an ACK costs as much as a system
    /// call in copy mode.
    /// </summary>
    private const int SegmentsPerAck = 4;

    /// <summary>
    /// ACKs without delay after a loss, and with little delay at the start, as many as Linux sends
    /// (TCP_MAX_QUICKACKS). The sender's window is small then, and a delayed ACK would stall it.
    /// </summary>
    private const byte QuickAcks = 16;

    /// <summary>Enough for fast retransmit, and no amplifier.</summary>
    private const int MaxDuplicateAcks = 4;

    /// <summary>
    /// How long an ACK waits at the start. Linux sends it at once. But here the answer to a request is written in a
    /// later turn, and an ACK ahead of each would be one more packet for each new connection. A peer that writes a
    /// header and a body with Nagle waits so long in between, and not for a delayed ACK.
    /// </summary>
    private static readonly TimeSpan s_promptDelay = TimeSpan.FromMilliseconds(2);

    /// <summary>
    /// After so long without data the sender may have to start anew (Linux: an RTO, whose least this is).
    /// </summary>
    private static readonly TimeSpan s_idle = TimeSpan.FromMilliseconds(200);

    // Each connection has these, so every byte counts.

    private FineInstant _dataAt;

    /// <summary>No more than can be counted: two full segments are enough.</summary>
    private ushort _bytesSinceAck;
    private byte _segmentsSinceAck;

    /// <summary>ACKs still to be sent in <see cref="_pace"/>.</summary>
    private byte _quickAcks = QuickAcks;
    private Pace _pace = Pace.Prompt;

    /// <summary>
    /// ACKs owed without delay. More than one are duplicates, which a peer without SACK counts.
    /// </summary>
    private byte _owed;
    private ushort _duplicateLength;
    private SeqNumber _duplicateLeft;

    /// <summary>How long they wait.</summary>
    private enum Pace : byte
    {
        /// <summary>A moment, until the application answers.</summary>
        Prompt,

        /// <summary>
        /// The whole delay, as all others: the application answers, and its answer carries the ACK (Linux: pingpong).
        /// It is so until a delayed ACK had to be sent all the same.
        /// </summary>
        Patient,

        /// <summary>They do not.</summary>
        AtOnce,
    }

    /// <summary>How long ago payload has come in order, if it has.</summary>
    internal readonly TimeSpan SinceData(Instant now) => _dataAt.Age(now);

    /// <summary>An ACK is owed without delay.</summary>
    internal readonly bool IsDue => _owed > 0;

    /// <summary>When a delayed ACK is due.</summary>
    internal Instant Deadline { get; private set; } = Instant.Never;

    /// <summary>Sequence space has come twice, and the peer has not been told.</summary>
    internal readonly bool HasDuplicate => _duplicateLength > 0;

    /// <summary>So much of a batch has come that its sender should not wait for the end of it.</summary>
    internal readonly bool IsDueWithinBatch => _segmentsSinceAck >= SegmentsPerAck && IsDue;

    /// <summary>Owes an ACK without delay.</summary>
    internal void Owe() => _owed = Math.Max(_owed, (byte)1);

    /// <summary>A segment with payload has come.</summary>
    internal void OnSegment()
    {
        if (_segmentsSinceAck < byte.MaxValue)
            _segmentsSinceAck++;
    }

    /// <summary>Payload has come in order.</summary>
    /// <param name="bytes">How much.</param>
    /// <param name="mss">What counts as a full segment.</param>
    /// <param name="delay">How long its ACK may wait for company.</param>
    /// <param name="now">The present.</param>
    internal void OnInOrder(int bytes, int mss, TimeSpan delay, Instant now)
    {
        if (_pace == Pace.Prompt && _dataAt.Age(now) > s_idle)
            _quickAcks = QuickAcks;
        _dataAt = new FineInstant(now);
        _bytesSinceAck = (ushort)Math.Min(_bytesSinceAck + bytes, ushort.MaxValue);
        bool isQuick = _quickAcks > 0;
        if (_bytesSinceAck >= Math.Min(2 * mss, ushort.MaxValue) || (isQuick && _pace == Pace.AtOnce))
            Owe();
        else if (Deadline == Instant.Never)
            Deadline = now + (isQuick && _pace == Pace.Prompt && delay > s_promptDelay ? s_promptDelay : delay);
    }

    /// <summary>Payload has come ahead of a gap.</summary>
    internal void OnAhead(bool hasSack)
    {
        (_quickAcks, _pace) = (QuickAcks, Pace.AtOnce);
        if (_owed == 0 || (!hasSack && _owed <= MaxDuplicateAcks))
            _owed++;
    }

    /// <summary>Sequence space has come that was here already.</summary>
    internal void OnDuplicate(SeqNumber left, SeqNumber right) =>
        (_duplicateLeft, _duplicateLength) = (left, (ushort)Math.Min(right - left, ushort.MaxValue));

    /// <summary>
    /// The same, of a piece that is not at the segment's start. Of a segment's pieces the first is reported (RFC 2883,
    /// section 4.2.2), of several segments the last.
    /// </summary>
    /// <param name="left">Where the piece begins.</param>
    /// <param name="right">Where it ends.</param>
    /// <param name="news">The segment's first byte that was not here. A piece before it is to be reported.</param>
    internal void OnLaterDuplicate(SeqNumber left, SeqNumber right, SeqNumber news)
    {
        if (!HasDuplicate || _duplicateLeft + _duplicateLength != news)
            OnDuplicate(left, right);
    }

    /// <summary>The first SACK block of an ACK, if it is to be a D-SACK. The peer counts as told.</summary>
    internal void WriteDuplicate(ref SackBlocks sack)
    {
        if (!HasDuplicate)
            return;
        sack.Add(_duplicateLeft, _duplicateLeft + _duplicateLength);
        _duplicateLength = 0;
    }

    /// <summary>The time of a delayed ACK has come.</summary>
    internal void OnDeadline()
    {
        Deadline = Instant.Never;
        Owe();
        if (_pace == Pace.Patient)
            _pace = Pace.Prompt;
    }

    /// <summary>
    /// New data is sent. Within the time of a delayed ACK after the peer's data, it is an answer.
    /// </summary>
    internal void OnDataSent(TimeSpan delay, Instant now)
    {
        if (_pace == Pace.Prompt && _dataAt.Age(now) < delay)
            _pace = Pace.Patient;
    }

    /// <summary>A segment was sent, and every segment acknowledges.</summary>
    /// <param name="settles">
    /// Nothing is left for a bare ACK to say. Data does not settle a gap or a duplicate: it has no room for SACK, and
    /// no peer counts it as a duplicate ACK.
    /// </param>
    internal void OnSent(bool settles)
    {
        if (settles && _owed > 0)
            _owed--;
        OnAcknowledged();
    }

    /// <summary>An ACK was sent within a batch. The duplicates that are owed wait for its end.</summary>
    internal void OnSentWithinBatch()
    {
        if (_owed > 0)
            _owed--;
        OnAcknowledged();
    }

    private void OnAcknowledged()
    {
        _bytesSinceAck = 0;
        _segmentsSinceAck = 0;
        if (_quickAcks > 0 && --_quickAcks == 0 && _pace == Pace.AtOnce)
            _pace = Pace.Prompt;
        Deadline = Instant.Never;
    }
}
