namespace Xdp.TcpLite.Tests;

/// <summary>A <see cref="Sender"/> alone, with a peer that is the test. The handshake is done.</summary>
internal sealed class SenderRig
{
    internal const int Mss = 1000;

    private readonly PartRig _rig = new();

    internal Sender Sender;
    internal Ecn Ecn;

    internal SenderRig(uint iss = 999, bool sack = true, byte shift = 0, int window = 60_000)
    {
        Sender = new Sender(new SeqNumber(iss), new NewReno()) { NoDelay = true };
        Sender.Negotiate(new NegotiatedOptions { Sack = sack, SndWndShift = shift });
        Sender.StartMss(Mss);
        Sender.SendSyn();
        Sender.AckSyn();
        Start = Sender.SndUna;
        Sender.StartWindow(Packet(0, (ushort)window) with { Seq = new SeqNumber(1) }, scaled: true);
        Sender.Rtt.Sample(TimeSpan.FromMilliseconds(100), Now);
    }

    /// <summary>Number of the first byte.</summary>
    internal SeqNumber Start { get; }

    internal TcpStackOptions Options { get; init; } = new();

    internal TcpStackCounters Counters => _rig.Counters;

    internal StackEnvironment Environment => _rig.Environment;

    internal Instant Now => _rig.Now;

    internal void Advance(TimeSpan span) => _rig.Advance(span);

    /// <summary>A bare ACK of the peer's, with a window in the units of the field.</summary>
    internal Packet Packet(int acked, int window = 60_000) =>
        PartRig.Segment(TcpFlags.Ack, 1, (Start + acked).Value) with { Window = (ushort)window };

    internal void Write(int bytes)
    {
        BlockQueue data = default;
        Block block = _rig.Environment.Blocks.Take(bytes);
        block.Length = bytes;
        data.Enqueue(block);
        Sender.Write(ref data, _rig.Environment);
    }

    internal SendDecision Next()
    {
        Sender.Next(Options, default, Counters, Now, out SendDecision next);
        return next;
    }

    /// <summary>
    /// Sends all that may be sent, and returns the payloads' lengths; of what is sent again, negative.
    /// </summary>
    internal List<int> SendAll()
    {
        var sent = new List<int>();
        for (SendDecision next = Next(); next.IsRetransmission || next.IsNew; next = Next())
        {
            if (next.IsRetransmission)
            {
                sent.Add(-Sender.Flight!.Queue[next.Retransmission].Length);
                Sender.OnRetransmitted(next.Retransmission, Options, default, Counters, Now);
                continue;
            }
            Sender.OnSent(Sender.Cut(next, _rig.Environment, Now), next, Options, Now);
            sent.Add(next.Length);
        }
        Sender.ArmPersistIfBlocked(Options, Now);
        return sent;
    }

    internal AckOutcome Ack(in Packet packet)
    {
        Sender.Acknowledge(packet, default, Counters, Now, out AckOutcome outcome);
        Sender.Conclude(packet, outcome, ref Ecn, Options, default, Counters, Now);
        Sender.ReturnFlightIfDone(_rig.Environment);
        return outcome;
    }

    internal AckOutcome Ack(int acked, int window = 60_000) => Ack(Packet(acked, window));

    /// <summary>Goes to the sender's next deadline.</summary>
    internal SenderTimeouts TakeDeadline()
    {
        Assert.NotEqual(Instant.Never, Sender.NextDeadline);
        _rig.Advance(Instant.Max(Now, Sender.NextDeadline) - Now);
        return Sender.OnDeadline(Options, default, Counters, Now);
    }

    /// <summary>Everything is acknowledged: the flight and its blocks are home.</summary>
    internal void AssertDone()
    {
        Assert.Null(Sender.Flight);
        Assert.Equal((0, 0), (Sender.Outstanding, _rig.Environment.Blocks.InUse));
        Assert.Equal(Instant.Never, Sender.NextDeadline);
    }
}
