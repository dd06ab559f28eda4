using System.Diagnostics.CodeAnalysis;

namespace Xdp.TcpLite;

/// <summary>Passive and active opens: listeners, half-open records, SYN cookies (RFC 4987), the accept queue.</summary>
public sealed partial class TcpStack
{
    /// <summary>SYN-ACKs that are sent again before a half-open record is dropped (Linux's tcp_synack_retries).</summary>
    private const int SynAckRetries = 5;

    /// <summary>How long after the last cookie was sent an ACK may bring it back (its counter's two steps).</summary>
    private static readonly TimeSpan s_cookieLifetime = TimeSpan.FromSeconds(128);

    private readonly SynCookies _cookies;
    private readonly Dictionary<(IpAddr Address, ushort Port), Listener> _listeners = [];
    private readonly Queue<(TcpConnection Connection, Listener Listener)> _accepted = new();
    private Instant _cookiesUntil = new(long.MinValue);

    /// <summary>Accepts connections to this address and port; the default <see cref="IpAddr"/> means every address. Idempotent.</summary>
    /// <param name="local">Local address.</param>
    /// <param name="port">Local port.</param>
    /// <param name="owner">Given to each accepted connection as <see cref="TcpConnection.Owner"/>.</param>
    public void Listen(IpAddr local, ushort port, object? owner) => _listeners.TryAdd((local, port), new Listener(owner));

    /// <summary>Accepts no new connections there; half-open ones are dropped, established ones live on.</summary>
    public void StopListening(IpAddr local, ushort port)
    {
        if (!_listeners.Remove((local, port), out Listener? listener))
            return;
        listener.Closed = true;
    }

    /// <summary>The next established connection that nobody has accepted. <see cref="TcpConnection.Owner"/> is the listener's.</summary>
    public bool TryAccept([NotNullWhen(true)] out TcpConnection? connection)
    {
        connection = null;
        if (!_accepted.TryDequeue(out (TcpConnection Connection, Listener Listener) next))
            return false;
        connection = next.Connection;
        next.Listener.AcceptQueueLength--;
        return true;
    }

    /// <summary>Opens a connection; <see cref="TcpEvents.Established"/> tells when it is there.</summary>
    /// <returns>Null when there is a connection with this 4-tuple already.</returns>
    public TcpConnection? Connect(in FlowKey flow, in LinkPath path, Instant now)
    {
        Now = now;
        var options = new NegotiatedOptions
        {
            PeerMss = DefaultMss(flow),
            RcvWndShift = WindowShift(Options),
            WindowScaling = true,
            Sack = true,
            Timestamps = true,
            TsOffset = _isn.TimestampOffset(flow),
        };
        var connection = new TcpConnection(this, flow, Paths.Share(path), options, _isn.Next(flow, now), now);
        if (!_flows.TryAdd(connection))
            return null;
        ConnectionCount++;
        connection.StartActive(now);
        return connection;
    }

    // ---- segments that meet no connection

    private ReceiveResult ReceiveUnknown(in Packet packet, Block frame, int start, Instant now)
    {
        if (packet.IsRst)
        {
            Drop(DropReason.NoListener);
            return ReceiveResult.UnknownFlow;
        }
        if (packet.IsSyn && !packet.IsAck)
        {
            if (FindListener(packet.Flow) is not { } listener)
                return ReceiveResult.UnknownFlow;
            ReceiveSyn(listener, packet, now, afterTimeWait: null);
            return ReceiveResult.Done;
        }
        if (now <= _cookiesUntil && packet.IsAck && !packet.IsSyn && FindListener(packet.Flow) is { } cookieListener
            && _cookies.TryCheck(packet, now, out SynCookieOptions options))
        {
            return AcceptCookie(cookieListener, options, packet, frame, start, now);
        }
        return ReceiveResult.UnknownFlow;
    }

    private Listener? FindListener(in FlowKey flow) =>
        _listeners.TryGetValue((flow.Local, flow.LocalPort), out Listener? listener) || _listeners.TryGetValue((default, flow.LocalPort), out listener)
            ? listener
            : null;

    private void ReceiveSyn(Listener listener, in Packet packet, Instant now, TimeWait? afterTimeWait)
    {
        if (packet.IsFin)
        {
            Drop(DropReason.BadSyn);
            return;
        }
        if (listener.AcceptQueueLength >= Options.Backlog)
        {
            Drop(DropReason.AcceptQueueFull);
            return;
        }
        if (listener.HalfOpenCount >= Options.Backlog)
        {
            // Nothing but its ACK will tell of the new connection, and that must not meet the old one.
            if (afterTimeWait is not null)
                ForgetTimeWait(afterTimeWait);
            SendCookie(packet, now);
            return;
        }
        SeqNumber iss = _isn.Next(packet.Flow, now);
        if (afterTimeWait is not null)
        {
            // Ahead of everything the old connection sent (RFC 6191, section 2).
            iss = SeqNumber.Max(iss, afterTimeWait.SndNxt + ushort.MaxValue);
            ForgetTimeWait(afterTimeWait);
        }
        var half = new HalfOpen(packet.Flow, listener)
        {
            Path = Paths.Share(packet.Path),
            Iss = iss,
            Irs = packet.Seq,
            Options = Negotiate(packet, WindowShift(Options), _isn.TimestampOffset(packet.Flow)),
            SentAt = now,
        };
        _flows.TryAdd(half);
        listener.HalfOpenCount++;
        HalfOpenCount++;
        SendSynAck(half, now);
        Wheel.Schedule(half, now + Options.InitialRto);
    }

    private void SendSynAck(HalfOpen half, Instant now)
    {
        SegmentFields fields = SynFields(half.Key, half.Options, answers: true, now);
        fields.Seq = half.Iss;
        fields.Ack = half.Irs + 1;
        Reply(half.Path.Value, half.Key, fields);
    }

    private void SendCookie(in Packet packet, Instant now)
    {
        NegotiatedOptions options = Negotiate(packet, WindowShift(Options), _isn.TimestampOffset(packet.Flow));
        if (!options.Timestamps)
        {
            // Without a timestamp to carry them they would be forgotten.
            options.WindowScaling = false;
            options.Sack = false;
            options.Ecn = false;
        }
        SegmentFields fields = SynFields(packet.Flow, options, answers: true, now);
        fields.Seq = _cookies.Make(packet, now, fields.TsVal, out uint tsVal);
        if (options.Timestamps)
            fields.TsVal = tsVal;
        fields.Ack = packet.Seq + 1;
        Reply(packet.Path, packet.Flow, fields);
        Counters.SynCookiesSent++;
        Drop(DropReason.BacklogFull);
        _cookiesUntil = now + s_cookieLifetime;
    }

    private ReceiveResult AcceptCookie(Listener listener, in SynCookieOptions cookie, in Packet packet, Block frame, int start, Instant now)
    {
        if (listener.AcceptQueueLength >= Options.Backlog)
        {
            Drop(DropReason.AcceptQueueFull);
            return ReceiveResult.Done;
        }
        var half = new HalfOpen(packet.Flow, listener)
        {
            Path = Paths.Share(packet.Path),
            Iss = packet.Ack - 1,
            Irs = packet.Seq - 1,
            Retransmits = 1,
            Options = new NegotiatedOptions
            {
                PeerMss = cookie.Mss,
                WindowScaling = cookie.HasWindowScale,
                SndWndShift = cookie.WindowScale,
                RcvWndShift = cookie.HasWindowScale ? WindowShift(Options) : (byte)0,
                Sack = cookie.SackPermitted,
                Timestamps = cookie.HasTimestamps,
                Ecn = cookie.Ecn,
                TsOffset = _isn.TimestampOffset(packet.Flow),
                TsRecent = packet.TsVal,
            },
        };
        return Accept(half, packet, frame, start, now);
    }

    // ---- SYN-RECEIVED

    private ReceiveResult ReceiveHalfOpen(HalfOpen half, in Packet packet, Block frame, int start, Instant now)
    {
        SeqNumber rcvNxt = half.Irs + 1;
        if (half.Listener.Closed)
        {
            ForgetHalfOpen(half);
            Reset(packet);
            return ReceiveResult.Done;
        }
        if (packet.IsRst)
        {
            if (packet.Seq == rcvNxt)
            {
                ForgetHalfOpen(half);
                return ReceiveResult.Done;
            }
            Drop(DropReason.BadRst);
            if (packet.Seq > rcvNxt && packet.Seq - rcvNxt < InitialWindow(Options))
                Challenge(half, now);
            return ReceiveResult.Done;
        }
        if (packet.IsSyn)
        {
            if (packet.Seq == half.Irs && !packet.IsAck)
            {
                half.IsRepeated = true;
                SendSynAck(half, now);
                return ReceiveResult.Done;
            }
            // A peer that has started afresh answers the challenge with a RST, and its next SYN is heard.
            Drop(DropReason.BadSyn);
            Challenge(half, now);
            return ReceiveResult.Done;
        }
        if (packet.Seq < rcvNxt || packet.Seq - rcvNxt > InitialWindow(Options))
        {
            Drop(DropReason.OutOfWindow);
            Challenge(half, now);
            return ReceiveResult.Done;
        }
        if (!packet.IsAck)
        {
            Drop(DropReason.MissingAck);
            return ReceiveResult.Done;
        }
        if (half.Options.Timestamps && packet.HasTimestamps && (int)(packet.TsVal - half.Options.TsRecent) < 0)
        {
            Drop(DropReason.PawsFailed);
            Challenge(half, now);
            return ReceiveResult.Done;
        }
        if (packet.Ack != half.Iss + 1)
        {
            Drop(DropReason.BadAck);
            Reset(packet);
            return ReceiveResult.Done;
        }
        if (half.Listener.AcceptQueueLength >= Options.Backlog)
        {
            Drop(DropReason.AcceptQueueFull);
            return ReceiveResult.Done;
        }
        ForgetHalfOpen(half);
        return Accept(half, packet, frame, start, now);
    }

    private ReceiveResult Accept(HalfOpen half, in Packet packet, Block frame, int start, Instant now)
    {
        var connection = new TcpConnection(this, half.Key, half.Path, half.Options, half.Iss, now)
        {
            Owner = half.Listener.Owner,
        };
        _flows.TryAdd(connection);
        ConnectionCount++;
        connection.StartPassive(half, packet, now);
        connection.StartWindow(packet);
        half.Listener.AcceptQueueLength++;
        _accepted.Enqueue((connection, half.Listener));
        Counters.ConnectionsAccepted++;
        return connection.Receive(packet, frame, start, now) ? ReceiveResult.Kept : ReceiveResult.Done;
    }

    /// <summary>An ACK to what may be a blind attack or a peer that has started afresh (RFC 5961, sections 3 and 4), at a limited rate.</summary>
    private void Challenge(HalfOpen half, Instant now)
    {
        if (now - half.ChallengedAt < TimeSpan.FromMilliseconds(TcpConnection.InvalidInterval))
            return;
        half.ChallengedAt = now;
        Counters.ChallengeAcks++;
        Reply(half.Path.Value, half.Key, new SegmentFields
        {
            Seq = half.Iss + 1,
            Ack = half.Irs + 1,
            Flags = TcpFlags.Ack,
            Window = (ushort)(InitialWindow(Options) >> half.Options.RcvWndShift),
            HasTimestamps = half.Options.Timestamps,
            TsVal = TimestampClock(now) + half.Options.TsOffset,
            TsEcr = half.Options.TsRecent,
        });
    }

    private void OnHalfOpenDeadline(HalfOpen half, Instant now)
    {
        if (half.Listener.Closed || half.Retransmits == SynAckRetries)
        {
            ForgetHalfOpen(half);
            return;
        }
        half.Retransmits++;
        SendSynAck(half, now);
        TimeSpan wait = Options.InitialRto * (1 << half.Retransmits);
        Wheel.Schedule(half, now + wait);
    }

    private void ForgetHalfOpen(HalfOpen half)
    {
        _flows.Remove(half.Key);
        Wheel.Cancel(half);
        half.Listener.HalfOpenCount--;
        HalfOpenCount--;
    }

    /// <summary>Answers with a RST, unless the segment is one itself (RFC 9293, section 3.5.2).</summary>
    internal void Reset(in Packet packet)
    {
        if (packet.IsRst || !_resets.TryTake(Now))
            return;
        Reply(packet.Path, packet.Flow, packet.IsAck
            ? new SegmentFields { Seq = packet.Ack, Flags = TcpFlags.Rst }
            : new SegmentFields { Ack = packet.Seq + packet.SegmentLength, Flags = TcpFlags.Rst | TcpFlags.Ack });
    }

    private TokenBucket _resets = new(perSecond: 1000, burst: 200);

    // ---- what a SYN says

    /// <summary>The window of our SYN or SYN-ACK, in bytes.</summary>
    internal static int InitialWindow(TcpStackOptions options) => Math.Min(options.ReceiveBufferInitial, ushort.MaxValue);

    /// <summary>The smallest shift with which the window field covers the largest receive buffer.</summary>
    private static byte WindowShift(TcpStackOptions options)
    {
        byte shift = 0;
        while (shift < 14 && (long)ushort.MaxValue << shift < options.ReceiveBufferMax)
            shift++;
        return shift;
    }

    private static ushort DefaultMss(in FlowKey flow) => (ushort)(flow.Local.IsIPv4 ? 536 : 1220);

    internal static NegotiatedOptions Negotiate(in Packet syn, byte ourShift, uint tsOffset) => new()
    {
        PeerMss = syn.Mss != 0 ? syn.Mss : DefaultMss(syn.Flow),
        WindowScaling = syn.HasWindowScale,
        SndWndShift = syn.HasWindowScale ? syn.WindowScale : (byte)0,
        RcvWndShift = syn.HasWindowScale ? ourShift : (byte)0,
        Sack = syn.SackPermitted,
        Timestamps = syn.HasTimestamps,
        TsOffset = tsOffset,
        TsRecent = syn.TsVal,
        Ecn = AsksForEcn(syn),
    };

    /// <summary>ECE and CWR on a SYN; on a SYN-ACK ECE alone would grant it, but we never ask.</summary>
    private static bool AsksForEcn(in Packet syn) => !syn.IsAck && syn.Has(TcpFlags.Ece) && syn.Has(TcpFlags.Cwr);

    internal SegmentFields SynFields(in FlowKey flow, in NegotiatedOptions options, bool answers, Instant now) => new()
    {
        Flags = !answers ? TcpFlags.Syn : options.Ecn ? TcpFlags.Syn | TcpFlags.Ack | TcpFlags.Ece : TcpFlags.Syn | TcpFlags.Ack,
        Window = (ushort)InitialWindow(Options),
        Mss = (ushort)MssFor(flow),
        HasWindowScale = options.WindowScaling,
        WindowScale = options.RcvWndShift,
        SackPermitted = options.Sack,
        HasTimestamps = options.Timestamps,
        TsVal = TimestampClock(now) + options.TsOffset,
        TsEcr = answers ? options.TsRecent : 0,
    };
}
