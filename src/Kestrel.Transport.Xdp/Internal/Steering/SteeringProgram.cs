using System.Net;
using System.Net.NetworkInformation;
using System.Runtime.InteropServices;
using Xdp.Sockets;
using Xdp.Sockets.Bpf;

namespace Kestrel.Transport.Xdp.Internal.Steering;

/// <summary>
/// The XDP program of one interface and its maps. Owns both, and the attachment.
/// <para>
/// Reading counters is safe from any thread at any time. Everything that changes maps belongs to the control path of
/// the interface, one call at a time. Every change takes effect between two packets: entries are added before the flag
/// that puts a list in force.
/// </para>
/// </summary>
internal sealed class SteeringProgram : ISteeringMaps, IDisposable
{
    private const string ResourceName = "xdp_steer.bpf.o", ProgramName = "xdp_steer";

    /// <summary>STEER_MAX_QUEUES of bpf/xdp_steer.h.</summary>
    internal const int MaxQueues = 256;

    private const ulong NanosecondsPerSecond = 1_000_000_000;

    private readonly BpfObject _object;
    private readonly BpfMap _xsks, _endpoints, _macs, _allowed, _denied, _elsewhere, _config, _synLimits, _counters;
    private PhysicalAddress? _mac;
    private SteeringFlags _flags;
    private XdpLink? _link;

    private SteeringProgram(BpfObject bpf)
    {
        _object = bpf;
        _xsks = bpf.Maps["xsks_map"];
        _endpoints = bpf.Maps["endpoints"];
        _macs = bpf.Maps["macs"];
        _allowed = bpf.Maps["allowed_sources"];
        _denied = bpf.Maps["denied_sources"];
        _elsewhere = bpf.Maps["peers_elsewhere"];
        _config = bpf.Maps["config"];
        _synLimits = bpf.Maps["syn_limits"];
        _counters = bpf.Maps["counters"];
    }

    internal BpfProgram Program => _object.Programs[ProgramName];

    /// <summary>It was attached here, and nobody else has taken it off.</summary>
    internal bool IsAttached => _link is { IsAttached: true };

    /// <exception cref="XdpException">The kernel refused the program or a map; says why.</exception>
    internal static SteeringProgram Load() => new(BpfObject.Load(ReadObject()));

    /// <summary>
    /// Attaches, waiting up to two seconds for another holder to let go. Blocks. <see cref="AttachMode.Auto"/> means
    /// native: generic mode is used only where it was asked for.
    /// </summary>
    /// <returns>The mode in use, and why it is not native when it is not.</returns>
    /// <exception cref="XdpException">
    /// Refused; the hint says why and, for EBUSY, which program holds the interface.
    /// </exception>
    internal (AttachMode Mode, string? Reason) Attach(int ifindex, AttachMode requested, TimeSpan? busyRetry = null)
    {
        if (_link is not null)
            throw new InvalidOperationException("The program is attached already.");
        _link = XdpLink.Attach(Program, ifindex, requested, busyRetry);
        return (_link.Mode, _link.Mode == AttachMode.Generic ? "generic mode was asked for" : null);
    }

    /// <summary>
    /// While it is attached: the device has got more queues. Puts a copy of the program in its place, atomically, with
    /// the same maps. A veth (Linux 6.18) gives a program only to the queues that it has at that moment, and what
    /// arrives at the others is the kernel's.
    /// </summary>
    internal void CoverNewQueues() => _link?.Update(_object.Reload(ProgramName));

    internal void Detach()
    {
        _link?.Dispose();
        _link = null;
    }

    /// <inheritdoc/>
    public void SetEndpoint(IPAddress local, int port, int vlan, SteeringMode mode)
    {
        if (local.Equals(IPAddress.Any) || local.Equals(IPAddress.IPv6Any))
            throw new ArgumentException(
                "A wildcard endpoint is expanded to addresses before it is steered.", nameof(local));
        _endpoints.Update(EndpointKey.From(local, port, vlan), (uint)mode);
    }

    /// <inheritdoc/>
    public bool RemoveEndpoint(IPAddress local, int port, int vlan)
        => _endpoints.Delete(EndpointKey.From(local, port, vlan));

    /// <summary>The destination MAC that is ours; frames to any other pass untouched.</summary>
    internal void SetMac(PhysicalAddress mac)
    {
        _macs.Update(MacKey.From(mac), 1u);
        if (_mac is { } old && !old.Equals(mac))
            _macs.Delete(MacKey.From(old));
        _mac = mac;
    }

    /// <summary>Hands the packets of a queue to a bound AF_XDP socket.</summary>
    internal void SetXsk(int queue, SafeHandle xsk)
    {
        bool held = false;
        try
        {
            xsk.DangerousAddRef(ref held);
            SetXsk(queue, (int)xsk.DangerousGetHandle());
        }
        finally
        {
            if (held)
                xsk.DangerousRelease();
        }
    }

    /// <inheritdoc/>
    public void SetXsk(int queue, int xsk)
    {
        CheckQueue(queue);
        _xsks.Update((uint)queue, (uint)xsk);
    }

    /// <inheritdoc/>
    public bool ClearXsk(int queue)
    {
        CheckQueue(queue);
        return _xsks.Delete((uint)queue);
    }

    /// <summary>Only these sources may reach steered endpoints; an empty list allows all.</summary>
    internal void SetAllowedSources(IReadOnlyList<IPNetwork> networks) =>
        SetSources(_allowed, networks, SteeringFlags.AllowList);

    /// <summary>These sources may not reach steered endpoints, whatever the allow list says.</summary>
    internal void SetDeniedSources(IReadOnlyList<IPNetwork> networks) =>
        SetSources(_denied, networks, SteeringFlags.DenyList);

    /// <inheritdoc/>
    public void SetPeersElsewhere(IReadOnlyDictionary<EndpointPeers, bool> peers) => SetTrie(
        _elsewhere, peers.Select(static entry => (ElsewhereKey.From(entry.Key), entry.Value)), SteeringFlags.Elsewhere);

    /// <inheritdoc/>
    public void SetSynRate(int queue, long perSecond, long burst)
    {
        CheckQueue(queue);
        ArgumentOutOfRangeException.ThrowIfNegative(perSecond);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(burst);
        ulong interval = perSecond == 0 ? 0 : Math.Max(1, NanosecondsPerSecond / (ulong)perSecond);
        _synLimits.Update((uint)queue, new SynLimit(interval, interval * (ulong)(burst - 1)));
    }

    internal SteeringCounters ReadCounters()
    {
        Span<ulong> values = stackalloc ulong[SteeringCounters.Count];
        for (uint i = 0; i < SteeringCounters.Count; i++)
            values[(int)i] = _counters.SumPerCpu(i);
        return new SteeringCounters(values);
    }

    /// <summary>Packets that were redirected to AF_XDP sockets. Cheaper than all counters.</summary>
    internal ulong ReadRedirected() =>
        _counters.SumPerCpu((uint)SteeringCounter.RedirectSyn)
        + _counters.SumPerCpu((uint)SteeringCounter.RedirectSegment)
        + _counters.SumPerCpu((uint)SteeringCounter.RedirectIcmp);

    public void Dispose()
    {
        Detach();
        _object.Dispose();
    }

    private void SetSources(BpfMap trie, IReadOnlyList<IPNetwork> networks, SteeringFlags flag)
    {
        // Nothing to put in, and nothing in it that counts.
        if (networks.Count > 0 || (_flags & flag) != 0)
            SetTrie(trie, networks.Select(static network => (SourceKey.From(network), true)), flag);
    }

    private void SetTrie<TKey>(BpfMap trie, IEnumerable<(TKey Key, bool Value)> entries, SteeringFlags flag)
        where TKey : unmanaged
    {
        HashSet<TKey> wanted = new(ByteComparer<TKey>.Instance);
        foreach ((TKey key, bool value) in entries)
        {
            wanted.Add(key);
            trie.Update(key, value ? 1u : 0u);
        }
        SteeringFlags flags = wanted.Count > 0 ? _flags | flag : _flags & ~flag;
        _config.Update(0u, (uint)flags);
        _flags = flags;
        foreach (TKey key in trie.Keys<TKey>())
        {
            if (!wanted.Contains(key))
                trie.Delete(key);
        }
    }

    private static byte[] ReadObject()
    {
        using Stream stream = typeof(SteeringProgram).Assembly.GetManifestResourceStream(ResourceName)
            ?? throw new InvalidOperationException($"The assembly was built without {ResourceName}.");
        byte[] bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }

    private static void CheckQueue(int queue)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(queue);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(queue, MaxQueues);
    }

    /// <summary>Compares map keys as the kernel does.</summary>
    private sealed class ByteComparer<T> : IEqualityComparer<T> where T : unmanaged
    {
        internal static readonly ByteComparer<T> Instance = new();

        public bool Equals(T x, T y) => Bytes(in x).SequenceEqual(Bytes(in y));

        public int GetHashCode(T value)
        {
            var hash = new HashCode();
            hash.AddBytes(Bytes(in value));
            return hash.ToHashCode();
        }

        private static ReadOnlySpan<byte> Bytes(in T value) => MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value));
    }
}
