namespace Xdp.TcpLite.Tests.Simulation;

/// <summary>What one direction of a link does to packets. Rates are probabilities a packet.</summary>
internal sealed record LinkOptions
{
    internal double Loss { get; init; }

    /// <summary>Mean length, in packets, of a burst of losses; 1 or less makes losses independent.</summary>
    internal double LossBurst { get; init; } = 1;
    internal double Reorder { get; init; }
    internal TimeSpan ReorderDelay { get; init; } = TimeSpan.FromMilliseconds(2);
    internal double Duplicate { get; init; }
    internal double Corrupt { get; init; }
    internal TimeSpan Delay { get; init; } = TimeSpan.FromMilliseconds(5);
    internal TimeSpan Jitter { get; init; }

    /// <summary>Largest IP packet that passes; larger ones are dropped.</summary>
    internal int Mtu { get; init; } = 1500;

    /// <summary>Tells the sender of a packet that is too large, as a router does; false makes a black hole.</summary>
    internal bool TellsTooBig { get; init; } = true;

    /// <summary>Bits a second of the bottleneck; 0 is infinitely fast.</summary>
    internal long Rate { get; init; }

    /// <summary>Bytes of the bottleneck's drop-tail queue.</summary>
    internal int Buffer { get; init; } = 256 << 10;
}

/// <summary>One direction of a link on virtual time.</summary>
internal sealed class SimLink(LinkOptions options, Random random)
{
    private Instant _freeAt;
    /// <summary>
    /// A burst is over when the link has been quiet for this long. So a burst is an event in time; it does not wait for
    /// later packets.
    /// </summary>
    private static readonly TimeSpan s_burstEnds = TimeSpan.FromMilliseconds(20);

    private bool _inBurst;
    private Instant _lastSend;
    private long _queueSum;
    private int _queueCount;

    internal LinkOptions Options { get; set; } = options;
    internal int Lost { get; private set; }
    internal int TooBig { get; private set; }
    internal int Overflowed { get; private set; }

    /// <summary>Bytes that packets have found in the queue before them, in the mean.</summary>
    internal double MeanQueue => _queueCount == 0 ? 0 : (double)_queueSum / _queueCount;

    /// <summary><see cref="MeanQueue"/> is of what comes from now on.</summary>
    internal void ForgetQueue() => _queueSum = _queueCount = 0;

    internal void Send(
        byte[] packet, Instant now, Action<byte[], Instant> arrive, Action<byte[], Instant>? bounce = null)
    {
        if (packet.Length - LinkPath.EthernetLength > Options.Mtu)
        {
            TooBig++;
            if (Options.TellsTooBig)
                bounce?.Invoke(TooBigNews(packet), now + Options.Delay);
            return;
        }
        _inBurst &= now - _lastSend < s_burstEnds;
        _lastSend = now;
        if (IsLost())
        {
            Lost++;
            return;
        }
        Instant at = now;
        if (Options.Rate > 0)
        {
            Instant start = Instant.Max(now, _freeAt);
            long queued = (start - now).Ticks * Options.Rate / 8 / TimeSpan.TicksPerSecond;
            if (queued + packet.Length > Options.Buffer)
            {
                Overflowed++;
                return;
            }
            _queueSum += queued;
            _queueCount++;
            _freeAt = start + TimeSpan.FromTicks(packet.Length * 8L * TimeSpan.TicksPerSecond / Options.Rate);
            at = _freeAt;
        }
        at += Options.Delay;
        if (Options.Jitter > TimeSpan.Zero)
            at += random.NextDouble() * Options.Jitter;
        if (random.NextDouble() < Options.Reorder)
            at += Options.ReorderDelay;
        if (random.NextDouble() < Options.Corrupt)
        {
            packet = (byte[])packet.Clone();
            packet[random.Next(packet.Length)] ^= (byte)(1 << random.Next(8));
        }
        arrive(packet, at);
        if (random.NextDouble() < Options.Duplicate)
            arrive(packet, at + TimeSpan.FromMilliseconds(random.NextDouble()));
    }

    /// <summary>"Fragmentation needed" (RFC 1191) for an IPv4 packet, from a router on the way.</summary>
    private byte[] TooBigNews(byte[] packet)
    {
        const int quoted = 28;
        byte[] news = new byte[14 + 20 + 8 + quoted];
        packet.AsSpan(6, 6).CopyTo(news);
        packet.AsSpan(0, 6).CopyTo(news.AsSpan(6));
        Span<byte> ip = news.AsSpan(12);
        ((ReadOnlySpan<byte>)[8, 0, 0x45, 0, 0, 20 + 8 + quoted, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 77]).CopyTo(ip);
        packet.AsSpan(26, 4).CopyTo(ip[18..]);
        SegmentBuilder.Put(ip[12..], SegmentBuilder.NaiveChecksum(ip[2..22]));
        Span<byte> icmp = news.AsSpan(34);
        icmp[0] = 3;
        icmp[1] = 4;
        SegmentBuilder.Put(icmp[6..], (ushort)Options.Mtu);
        packet.AsSpan(14, quoted).CopyTo(icmp[8..]);
        SegmentBuilder.Put(icmp[2..], SegmentBuilder.NaiveChecksum(icmp));
        return news;
    }

    private bool IsLost()
    {
        if (Options.LossBurst <= 1)
            return random.NextDouble() < Options.Loss;
        // Gilbert: leave a burst with 1/length, enter one so that the mean loss is as asked.
        double leave = 1 / Options.LossBurst;
        double enter = leave * Options.Loss / (1 - Options.Loss);
        _inBurst = _inBurst ? random.NextDouble() >= leave : random.NextDouble() < enter;
        return _inBurst;
    }
}
