using System.Runtime.InteropServices;

namespace Xdp.TcpLite;

/// <summary>
/// When to acknowledge. Every second full segment is acknowledged at once, the others after a delay (RFC 9293, section
/// 3.8.6.3; RFC 5681, section 4.2). There is no delay where something is missing, has come twice, or the peer repairs a
/// loss. Also keeps what only a bare ACK can say: D-SACK (RFC 2883) and, to a peer without SACK, each duplicate ACK.
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
    /// ACKs without delay after a loss, as many as Linux sends (TCP_MAX_QUICKACKS). The sender's window is small then,
    /// and a delayed ACK would stall it.
    /// </summary>
    private const byte QuickAcksAfterLoss = 16;

    /// <summary>Enough for fast retransmit, and no amplifier.</summary>
    private const int MaxDuplicateAcks = 4;

    private int _bytesSinceAck;
    private byte _segmentsSinceAck;

    /// <summary>ACKs still to be sent without delay.</summary>
    private byte _quickAcks;

    /// <summary>Duplicate ACKs owed beyond the first: a peer without SACK counts them.</summary>
    private byte _duplicateAcks;
    private SeqNumber _duplicateLeft, _duplicateRight;

    /// <summary>An ACK is owed without delay.</summary>
    internal bool IsDue { get; private set; }

    /// <summary>When a delayed ACK is due.</summary>
    internal Instant Deadline { get; private set; } = Instant.Never;

    /// <summary>Sequence space has come twice, and the peer has not been told.</summary>
    internal readonly bool HasDuplicate => _duplicateLeft != _duplicateRight;

    /// <summary>So much of a batch has come that its sender should not wait for the end of it.</summary>
    internal readonly bool IsDueWithinBatch => _segmentsSinceAck >= SegmentsPerAck && IsDue;

    /// <summary>Owes an ACK without delay.</summary>
    internal void Owe() => IsDue = true;

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
        _bytesSinceAck += bytes;
        if (_bytesSinceAck >= 2 * mss || _quickAcks > 0)
            IsDue = true;
        else if (Deadline == Instant.Never)
            Deadline = now + delay;
    }

    /// <summary>Payload has come ahead of a gap.</summary>
    internal void OnAhead(bool hasSack)
    {
        _quickAcks = QuickAcksAfterLoss;
        if (IsDue && !hasSack && _duplicateAcks < MaxDuplicateAcks)
            _duplicateAcks++;
        IsDue = true;
    }

    /// <summary>Sequence space has come that was here already.</summary>
    internal void OnDuplicate(SeqNumber left, SeqNumber right) => (_duplicateLeft, _duplicateRight) = (left, right);

    /// <summary>
    /// The same, of a piece that is not at the segment's start. Of a segment's pieces the first is reported (RFC 2883,
    /// section 4.2.2), of several segments the last.
    /// </summary>
    /// <param name="left">Where the piece begins.</param>
    /// <param name="right">Where it ends.</param>
    /// <param name="news">The segment's first byte that was not here. A piece before it is to be reported.</param>
    internal void OnLaterDuplicate(SeqNumber left, SeqNumber right, SeqNumber news)
    {
        if (!HasDuplicate || _duplicateRight != news)
            OnDuplicate(left, right);
    }

    /// <summary>The first SACK block of an ACK, if it is to be a D-SACK. The peer counts as told.</summary>
    internal void WriteDuplicate(ref SackBlocks sack)
    {
        if (!HasDuplicate)
            return;
        sack.Add(_duplicateLeft, _duplicateRight);
        _duplicateRight = _duplicateLeft;
    }

    /// <summary>The time of a delayed ACK has come.</summary>
    internal void OnDeadline()
    {
        Deadline = Instant.Never;
        IsDue = true;
    }

    /// <summary>A segment was sent, and every segment acknowledges.</summary>
    /// <param name="settles">
    /// Nothing is left for a bare ACK to say. Data does not settle a gap or a duplicate: it has no room for SACK, and
    /// no peer counts it as a duplicate ACK.
    /// </param>
    internal void OnSent(bool settles)
    {
        if (settles)
        {
            IsDue = _duplicateAcks > 0;
            if (IsDue)
                _duplicateAcks--;
        }
        OnAcknowledged();
    }

    /// <summary>An ACK was sent within a batch. The duplicates that are owed wait for its end.</summary>
    internal void OnSentWithinBatch()
    {
        IsDue = _duplicateAcks > 0;
        OnAcknowledged();
    }

    private void OnAcknowledged()
    {
        _bytesSinceAck = 0;
        _segmentsSinceAck = 0;
        if (_quickAcks > 0)
            _quickAcks--;
        Deadline = Instant.Never;
    }
}
