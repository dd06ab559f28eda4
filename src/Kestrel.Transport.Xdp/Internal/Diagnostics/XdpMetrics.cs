using System.Diagnostics.Metrics;
using System.Text.Json;
using Kestrel.Transport.Xdp.Internal.Steering;
using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>
/// What a user loses sight of when the kernel no longer has the sockets. Everything is read when it is collected; the data path only counts. Connections, requests
/// and TLS are Kestrel's own metrics.
/// </summary>
internal sealed class XdpMetrics : IDisposable
{
    private const string MeterName = "Kestrel.Transport.Xdp";

    private static readonly FrameState[] States = Enum.GetValues<FrameState>();

    private static readonly DropReason[] DropReasons = Enum.GetValues<DropReason>();

    private static readonly string[] DropReasonNames = [.. DropReasons.Select(r => JsonNamingPolicy.SnakeCaseLower.ConvertName(r.ToString()))];

    private readonly Func<IReadOnlyList<XdpEngine>> _engines;
    private readonly Meter _meter;
    private long _companionAccepts;

    /// <param name="meters">Where the meter is made.</param>
    /// <param name="engines">The interfaces in use. Asked whenever metrics are collected.</param>
    internal XdpMetrics(IMeterFactory meters, Func<IReadOnlyList<XdpEngine>> engines)
    {
        _engines = engines;
        _meter = meters.Create(new MeterOptions(MeterName));
        Counter("kestrel.xdp.packets", "{packet}", "Packets through the AF_XDP sockets.", static (q, add) =>
        {
            add(q.Counters.PacketsReceived, "network.io.direction", "receive");
            add(q.Counters.PacketsSent, "network.io.direction", "transmit");
        });
        Counter("kestrel.xdp.io", "By", "Bytes through the AF_XDP sockets, Ethernet headers included.", static (q, add) =>
        {
            add(q.Counters.BytesReceived, "network.io.direction", "receive");
            add(q.Counters.BytesSent, "network.io.direction", "transmit");
        });
        Counter("kestrel.xdp.turns", "{turn}", "Turns of the queue, by who ran them.", static (q, add) =>
        {
            add(q.Counters.Turns - q.Counters.PoolTurns - q.Counters.PosterTurns, "kestrel.xdp.runner", "worker");
            add(q.Counters.PoolTurns, "kestrel.xdp.runner", "pool");
            add(q.Counters.PosterTurns, "kestrel.xdp.runner", "application");
        });
        Counter("kestrel.xdp.kicks", "{call}", "Calls to the kernel to send.", static (q, add) =>
        {
            add(q.Counters.Kicks - q.Counters.KickFailures, "kestrel.xdp.result", "ok");
            add(q.Counters.KickFailures, "kestrel.xdp.result", "again");
        });
        Counter("kestrel.xdp.wakeups", "{wakeup}", "Ends of the worker's sleeps, and signals that were written to end one.", static (q, add) =>
        {
            add(q.Wakes, "kestrel.xdp.kind", "sleep");
            add(q.Signals, "kestrel.xdp.kind", "signal");
        });
        Counter("kestrel.xdp.turns.overdue", "{turn}", "Turns that the thread pool came to too late, so that the worker ran them.",
            static (q, add) => add(q.PoolOverdue, null, null));
        Counter("kestrel.xdp.segments.moved", "{segment}", "Segments that arrived at another queue than their connection's.", static (q, add) =>
        {
            add(q.Counters.Moved, "kestrel.xdp.result", "passed_on");
            add(q.Counters.MovedDropped, "kestrel.xdp.result", "dropped");
            add(q.Counters.Refused, "kestrel.xdp.result", "unknown");
        });
        Counter("kestrel.xdp.socket.drops", "{packet}", "Packets that the AF_XDP socket dropped or refused, as the kernel counts them.", static (q, add) =>
        {
            XskStatistics kernel = q.Statistics;
            add((long)kernel.RxDropped, "kestrel.xdp.reason", "rx_dropped");
            add((long)kernel.RxRingFull, "kestrel.xdp.reason", "rx_ring_full");
            add((long)kernel.RxFillRingEmpty, "kestrel.xdp.reason", "fill_ring_empty");
            add((long)kernel.RxInvalidDescriptors, "kestrel.xdp.reason", "rx_invalid_descriptor");
            add((long)kernel.TxInvalidDescriptors, "kestrel.xdp.reason", "tx_invalid_descriptor");
        });
        Counter("kestrel.xdp.tcp.heap_copies", "{segment}", "Received payloads that were copied out of their frames.", static (q, add) => add(q.Tcp.HeapCopies, null, null));
        Counter("kestrel.xdp.connections.accepted", "{connection}", "Connections accepted through AF_XDP.", static (q, add) => add(q.Counters.Accepted, null, null));
        Counter("kestrel.xdp.tcp.retransmits", "{segment}", "Segments sent again.", static (q, add) => add(q.Tcp.Retransmits, null, null));
        Counter("kestrel.xdp.tcp.recoveries", "{event}", "What made the stack send again, or find that it had done so needlessly.", static (q, add) =>
        {
            add(q.Tcp.FastRetransmits, "kestrel.xdp.kind", "fast_retransmit");
            add(q.Tcp.TlpProbes, "kestrel.xdp.kind", "tail_loss_probe");
            add(q.Tcp.RtoFires, "kestrel.xdp.kind", "timeout");
            add(q.Tcp.SpuriousRetransmits, "kestrel.xdp.kind", "spurious");
        });
        Counter("kestrel.xdp.tcp.drops", "{packet}", "Packets that the stack did not take, by reason.", static (q, add) =>
        {
            foreach (DropReason reason in DropReasons)
                if (q.Tcp[reason] is > 0 and long count)
                    add(count, "kestrel.xdp.reason", DropReasonNames[(int)reason]);
        });
        Counter("kestrel.xdp.tcp.resets", "{segment}", "RST segments.", static (q, add) =>
        {
            add(q.Tcp.RstsReceived, "network.io.direction", "receive");
            add(q.Tcp.RstsSent, "network.io.direction", "transmit");
        });
        Counter("kestrel.xdp.tcp.time_wait_reuses", "{connection}", "Connections opened by a SYN that found its predecessor in TIME-WAIT (RFC 6191).",
            static (q, add) => add(q.Tcp.TimeWaitReused, null, null));
        Counter("kestrel.xdp.connections.redirected", "{connection}", "Connections whose peer was silent until the kernel knew another neighbour towards it.",
            static (q, add) => add(q.Counters.Redirected, null, null));
        Counter("kestrel.xdp.turns.stalled", "{turn}", "Turns that ran for more than half a second.", static (q, add) => add(q.Counters.StalledTurns, null, null));
        Gauge("kestrel.xdp.connections", "{connection}", "Connections in the queue's TCP stack, by state.", static (q, add) =>
        {
            (int established, int halfOpen, int timeWait) = q.StackCounts;
            add(established, "kestrel.xdp.state", "open");
            add(halfOpen, "kestrel.xdp.state", "half_open");
            add(timeWait, "kestrel.xdp.state", "time_wait");
        });
        Gauge("kestrel.xdp.frames", "{frame}", "Frames of the queue's UMEM, by who has them.", static (q, add) =>
        {
            int[] counts = q.Frames.CountByState();
            foreach (FrameState state in States)
                add(counts[(int)state], "kestrel.xdp.state", Name(state));
        });
        Gauge("kestrel.xdp.ring.entries", "{entry}", "Entries that the kernel has not taken yet.", static (q, add) =>
        {
            add(q.FillPending, "kestrel.xdp.ring", "fill");
            add(q.TransmitPending, "kestrel.xdp.ring", "tx");
        });
        _meter.CreateObservableUpDownCounter("kestrel.xdp.heap.blocks", static () => EngineRegistry.Process.Blocks.InUse, "{block}",
            "Heap blocks of the process that hold payload, of 4 KiB each.");
        _meter.CreateObservableCounter("kestrel.xdp.steering", Steering, "{packet}", "Packets that the XDP program judged, by verdict.");
        _meter.CreateObservableCounter("kestrel.xdp.companion.accepted", () => Interlocked.Read(ref _companionAccepts), "{connection}", "Connections accepted by companion sockets.");
    }

    private delegate void Add(long value, string? tag, string? tagValue);

    /// <summary>A companion socket has accepted a connection. Any thread.</summary>
    internal void CompanionAccepted() => Interlocked.Increment(ref _companionAccepts);

    public void Dispose() => _meter.Dispose();

    private void Counter(string name, string unit, string description, Action<XdpQueue, Add> read) =>
        _meter.CreateObservableCounter(name, () => Collect(read), unit, description);

    private void Gauge(string name, string unit, string description, Action<XdpQueue, Add> read) =>
        _meter.CreateObservableUpDownCounter(name, () => Collect(read), unit, description);

    private List<Measurement<long>> Collect(Action<XdpQueue, Add> read)
    {
        var measurements = new List<Measurement<long>>();
        foreach (XdpQueue queue in _engines().SelectMany(static e => e.Queues))
        {
            KeyValuePair<string, object?> device = new("network.interface.name", queue.Settings.InterfaceName);
            KeyValuePair<string, object?> number = new("kestrel.xdp.queue", queue.Settings.QueueId);
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
                measurements.Add(new((long)value, new("network.interface.name", engine.InterfaceName), new("kestrel.xdp.verdict", verdict)));
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
