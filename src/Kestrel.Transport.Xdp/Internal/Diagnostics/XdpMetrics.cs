using System.Diagnostics.Metrics;
using System.Text.Json;
using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Internal.Queues;
using Kestrel.Transport.Xdp.Internal.Steering;
using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Diagnostics;

/// <summary>
/// What a user loses sight of when the kernel no longer has the sockets. Everything is read when it is collected; the
/// data path only counts. Connections, requests and TLS are Kestrel's own metrics.
/// </summary>
internal sealed class XdpMetrics : IDisposable
{
    private const string MeterName = "Kestrel.Transport.Xdp";

    private static readonly FrameState[] States = Enum.GetValues<FrameState>();

    private static readonly DropReason[] DropReasons = Enum.GetValues<DropReason>();

    private static readonly string[] DropReasonNames =
        [.. DropReasons.Select(r => JsonNamingPolicy.SnakeCaseLower.ConvertName(r.ToString()))];

    private readonly Func<IReadOnlyList<XdpEngine>> _engines;
    private readonly Meter _meter;
    private long _companionAccepts, _companionRefusals;

    /// <param name="meters">Where the meter is made.</param>
    /// <param name="engines">The interfaces in use. Asked whenever metrics are collected.</param>
    internal XdpMetrics(IMeterFactory meters, Func<IReadOnlyList<XdpEngine>> engines)
    {
        _engines = engines;
        _meter = meters.Create(new MeterOptions(MeterName));
        CountPackets();
        CountTurns();
        CountTcp();
        CountConnections();
        ShowMemory();
    }

    private delegate void Add(long value, string? tag = null, string? tagValue = null);

    /// <summary>A companion socket has accepted a connection. Any thread.</summary>
    internal void CompanionAccepted() => Interlocked.Increment(ref _companionAccepts);

    /// <summary>A companion socket has refused a connection for its source. Any thread.</summary>
    internal void CompanionRefused() => Interlocked.Increment(ref _companionRefusals);

    public void Dispose() => _meter.Dispose();

    private void CountPackets()
    {
        Counter("kestrel.xdp.packets", "{packet}", "Packets through the AF_XDP sockets.", static (q, add) =>
        {
            add(q.Counters.PacketsReceived, "network.io.direction", "receive");
            add(q.Counters.PacketsSent, "network.io.direction", "transmit");
        });
        string bytes = "Bytes through the AF_XDP sockets, Ethernet headers included.";
        Counter("kestrel.xdp.io", "By", bytes, static (q, add) =>
        {
            add(q.Counters.BytesReceived, "network.io.direction", "receive");
            add(q.Counters.BytesSent, "network.io.direction", "transmit");
        });
        Counter("kestrel.xdp.kicks", "{call}", "Calls to the kernel to send.", static (q, add) =>
        {
            add(q.Counters.Kicks - q.Counters.KickFailures, "kestrel.xdp.result", "ok");
            add(q.Counters.KickFailures, "kestrel.xdp.result", "again");
        });
        string offloaded = "Segments sent as parts of larger packets, which are divided later (GSO).";
        Counter("kestrel.xdp.segments.offloaded", "{segment}", offloaded, static (q, add) =>
        {
            add(q.Counters.Offloaded, "kestrel.xdp.result", "sent");
            add(q.Counters.OffloadDropped, "kestrel.xdp.result", "dropped");
            add(q.Counters.OffloadRefused, "kestrel.xdp.result", "refused");
        });
        string chained = "Received packets that took several frames. Those dropped had an empty part, or too many.";
        Counter("kestrel.xdp.packets.chained", "{packet}", chained, static (q, add) =>
        {
            add(q.Counters.Chained, "kestrel.xdp.result", "taken");
            add(q.Counters.ChainedDropped, "kestrel.xdp.result", "dropped");
        });
        string moved = "Segments that arrived at another queue than their connection's, of whichever interface.";
        Counter("kestrel.xdp.segments.moved", "{segment}", moved, static (q, add) =>
        {
            add(q.Counters.Forwarded, "kestrel.xdp.result", "passed_on");
            add(q.Counters.ForwardedDropped, "kestrel.xdp.result", "dropped");
            add(q.Counters.Refused, "kestrel.xdp.result", "unknown");
        });
        string elsewhere = "Segments of peers that another interface answers, and of those whose route is not known.";
        Counter("kestrel.xdp.segments.elsewhere", "{segment}", elsewhere, static (q, add) =>
        {
            add(q.Counters.HandedOver, "kestrel.xdp.result", "handed_over");
            add(q.Counters.SentByKernel - q.Counters.SentByKernelDropped, "kestrel.xdp.result", "sent_by_kernel");
            add(q.Counters.SentByKernelDropped, "kestrel.xdp.result", "dropped");
            add(q.Counters.RouteDropped, "kestrel.xdp.result", "route_unknown");
        });
        string drops = "Packets that the AF_XDP socket dropped or refused, as the kernel counts them.";
        Counter("kestrel.xdp.socket.drops", "{packet}", drops, static (q, add) =>
        {
            XskStatistics kernel = q.Kernel;
            add((long)kernel.RxDropped, "kestrel.xdp.reason", "rx_dropped");
            add((long)kernel.RxRingFull, "kestrel.xdp.reason", "rx_ring_full");
            add((long)kernel.RxFillRingEmpty, "kestrel.xdp.reason", "fill_ring_empty");
            add((long)kernel.RxInvalidDescriptors, "kestrel.xdp.reason", "rx_invalid_descriptor");
            add((long)kernel.TxInvalidDescriptors, "kestrel.xdp.reason", "tx_invalid_descriptor");
        });
        _meter.CreateObservableCounter(
            "kestrel.xdp.steering", Steering, "{packet}", "Packets that the XDP program judged, by verdict.");
    }

    private void CountTurns()
    {
        Counter("kestrel.xdp.turns", "{turn}", "Turns of the queue, by who ran them.", static (q, add) =>
        {
            add(q.Counters.Turns - q.Counters.PoolTurns - q.Counters.PosterTurns, "kestrel.xdp.runner", "worker");
            add(q.Counters.PoolTurns, "kestrel.xdp.runner", "pool");
            add(q.Counters.PosterTurns, "kestrel.xdp.runner", "application");
        });
        string overdue = "Turns that the thread pool came to too late, so that the worker ran them.";
        Counter("kestrel.xdp.turns.overdue", "{turn}", overdue, static (q, add) => add(q.PoolOverdue));
        string stalled = "Turns that ran for more than half a second.";
        Counter("kestrel.xdp.turns.stalled", "{turn}", stalled, static (q, add) => add(q.Counters.StalledTurns));
        string wakeups = "Ends of the worker's sleeps, and signals that were written to end one.";
        Counter("kestrel.xdp.wakeups", "{wakeup}", wakeups, static (q, add) =>
        {
            add(q.Wakes, "kestrel.xdp.kind", "sleep");
            add(q.Signals, "kestrel.xdp.kind", "signal");
        });
    }

    private void CountTcp()
    {
        string copies = "Received payloads that were copied out of their frames.";
        Counter("kestrel.xdp.tcp.heap_copies", "{segment}", copies, static (q, add) => add(q.Tcp.HeapCopies));
        string again = "Segments sent again.";
        Counter("kestrel.xdp.tcp.retransmits", "{segment}", again, static (q, add) => add(q.Tcp.Retransmits));
        string recoveries = "What made the stack send again, or find that it had done so needlessly.";
        Counter("kestrel.xdp.tcp.recoveries", "{event}", recoveries, static (q, add) =>
        {
            add(q.Tcp.FastRetransmits, "kestrel.xdp.kind", "fast_retransmit");
            add(q.Tcp.TlpProbes, "kestrel.xdp.kind", "tail_loss_probe");
            add(q.Tcp.RtoFires, "kestrel.xdp.kind", "timeout");
            add(q.Tcp.SpuriousRetransmits, "kestrel.xdp.kind", "spurious");
        });
        string memory = "Receive memory that ran short, and payload ahead of a gap that was dropped to make room.";
        Counter("kestrel.xdp.tcp.memory", "{event}", memory, static (q, add) =>
        {
            add(q.Tcp.MemoryPressures, "kestrel.xdp.kind", "pressure");
            add(q.Tcp.OutOfOrderPrunes, "kestrel.xdp.kind", "prune");
        });
        string drops = "Packets that the stack did not take, by reason.";
        Counter("kestrel.xdp.tcp.drops", "{packet}", drops, static (q, add) =>
        {
            foreach (DropReason reason in DropReasons)
            {
                if (q.Tcp[reason] is > 0 and long count)
                    add(count, "kestrel.xdp.reason", DropReasonNames[(int)reason]);
            }
        });
        Counter("kestrel.xdp.tcp.resets", "{segment}", "RST segments.", static (q, add) =>
        {
            add(q.Tcp.RstsReceived, "network.io.direction", "receive");
            add(q.Tcp.RstsSent, "network.io.direction", "transmit");
        });
        string reuses = "Connections opened by a SYN that found its predecessor in TIME-WAIT (RFC 6191).";
        Counter("kestrel.xdp.tcp.time_wait_reuses", "{connection}", reuses,
            static (q, add) => add(q.Tcp.TimeWaitReused));
    }

    private void CountConnections()
    {
        Counter("kestrel.xdp.connections.accepted", "{connection}", "Connections accepted through AF_XDP.",
            static (q, add) => add(q.Counters.Accepted));
        string redirected = "Changes of the way that a connection's segments go.";
        Counter("kestrel.xdp.connections.redirected", "{connection}", redirected,
            static (q, add) => add(q.Counters.Redirected));
        _meter.CreateObservableCounter(
            "kestrel.xdp.companion.accepted", () => Interlocked.Read(ref _companionAccepts), "{connection}",
            "Connections accepted by companion sockets.");
        _meter.CreateObservableCounter(
            "kestrel.xdp.companion.refused", () => Interlocked.Read(ref _companionRefusals), "{connection}",
            "Connections refused by companion sockets, as AllowedSources or DeniedSources keep their source out.");
        string ended = "Connections that the application had closed, and that were ended before their peer was done.";
        Counter("kestrel.xdp.connections.cut", "{connection}", ended, static (q, add) =>
        {
            add(q.Tcp.DataAfterCloseResets, "kestrel.xdp.reason", "data_after_close");
            add(q.Tcp.OrphansReset, "kestrel.xdp.reason", "limit");
            add(q.Tcp.OrphansTimedOut, "kestrel.xdp.reason", "silence");
        });
        string closed = "Connections that the application has closed, and that still deliver or wait for the peer.";
        Gauge("kestrel.xdp.connections.orphaned", "{connection}", closed, static (q, add) => add(q.Orphans));
        string byState = "Connections in the queue's TCP stack, by state.";
        Gauge("kestrel.xdp.connections", "{connection}", byState, static (q, add) =>
        {
            (int established, int halfOpen, int timeWait) = q.Connections;
            add(established, "kestrel.xdp.state", "open");
            add(halfOpen, "kestrel.xdp.state", "half_open");
            add(timeWait, "kestrel.xdp.state", "time_wait");
        });
    }

    private void ShowMemory()
    {
        Gauge("kestrel.xdp.frames", "{frame}", "Frames of the queue's UMEM, by who has them.", static (q, add) =>
        {
            int[] counts = q.Frames;
            foreach (FrameState state in States)
                add(counts[(int)state], "kestrel.xdp.state", Name(state));
        });
        Gauge("kestrel.xdp.ring.entries", "{entry}", "Entries that the kernel has not taken yet.", static (q, add) =>
        {
            add(q.FillPending, "kestrel.xdp.ring", "fill");
            add(q.TransmitPending, "kestrel.xdp.ring", "tx");
        });
        _meter.CreateObservableUpDownCounter(
            "kestrel.xdp.heap.blocks", static () => EngineRegistry.Process.Blocks.InUse, "{block}",
            "Heap blocks of the process that hold payload, of 4 KiB each.");
    }

    private void Counter(string name, string unit, string description, Action<QueueStatistics, Add> read) =>
        _meter.CreateObservableCounter(name, () => Collect(read), unit, description);

    private void Gauge(string name, string unit, string description, Action<QueueStatistics, Add> read) =>
        _meter.CreateObservableUpDownCounter(name, () => Collect(read), unit, description);

    private List<Measurement<long>> Collect(Action<QueueStatistics, Add> read)
    {
        var measurements = new List<Measurement<long>>();
        foreach (QueueStatistics queue in _engines().SelectMany(static e => e.Queues).Select(static q => q.Statistics))
        {
            KeyValuePair<string, object?> device = new("network.interface.name", queue.InterfaceName);
            KeyValuePair<string, object?> number = new("kestrel.xdp.queue", queue.QueueId);
            read(queue, (value, tag, tagValue) => measurements.Add(
                tag is null ? new(value, device, number) : new(value, device, number, new(tag, tagValue))));
        }
        return measurements;
    }

    private List<Measurement<long>> Steering()
    {
        var measurements = new List<Measurement<long>>();
        foreach (XdpEngine engine in _engines())
        {
            if (engine.ReadSteering() is not { } counters)
                continue;
            foreach ((string verdict, ulong value) in Verdicts(counters))
            {
                measurements.Add(new(
                    (long)value,
                    new("network.interface.name", engine.InterfaceName),
                    new("kestrel.xdp.verdict", verdict)));
            }
        }
        return measurements;
    }

    private static IEnumerable<(string Verdict, ulong Value)> Verdicts(SteeringCounters c) =>
    [
        ("pass_not_our_mac", c.PassNotOurMac),
        ("pass_not_tcp", c.PassNotTcp),
        ("pass_malformed", c.PassMalformed),
        ("pass_later_fragment", c.PassLaterFragment),
        ("pass_no_endpoint", c.PassNoEndpoint),
        ("pass_off", c.PassOff),
        ("pass_kernel_owned", c.PassKernelOwned),
        ("pass_syn_drain", c.PassSynDrain),
        ("pass_syn_no_xsk", c.PassSynNoXsk),
        ("pass_syn_elsewhere", c.PassSynElsewhere),
        ("pass_icmp_kernel_owned", c.PassIcmpKernelOwned),
        ("pass_icmp_no_xsk", c.PassIcmpNoXsk),
        ("drop_source", c.DropSource),
        ("drop_fragment", c.DropFragment),
        ("drop_no_xsk", c.DropNoXsk),
        ("drop_syn_rate", c.DropSynRate),
        ("redirect_syn", c.RedirectSyn),
        ("redirect_segment", c.RedirectSegment),
        ("redirect_icmp", c.RedirectIcmp),
    ];

    private static string Name(FrameState state) => state switch
    {
        FrameState.Free => "free",
        FrameState.Fill => "fill",
        FrameState.Rx => "rx",
        FrameState.Application => "application",
        FrameState.Writing => "writing",
        _ => "send_queue",
    };
}
