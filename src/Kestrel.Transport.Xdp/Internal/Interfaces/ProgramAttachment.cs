using System.Diagnostics;
using Kestrel.Transport.Xdp.Internal.Logging;
using Kestrel.Transport.Xdp.Internal.Options;
using Kestrel.Transport.Xdp.Internal.Steering;
using Microsoft.Extensions.Logging;
using Xdp.Sockets;
using Xdp.Sockets.Bpf;
using Xdp.Sockets.Net;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// The XDP program on one interface. Owns the program while it is attached, what is known of the device, when it may be
/// tried again, and why the interface is not served. Under the engine's lock. Times are in milliseconds.
/// </summary>
/// <param name="interfaceName">The interface's name.</param>
/// <param name="settings">How to attach, and for which addresses.</param>
/// <param name="logger">The engine's.</param>
/// <param name="isServed">Is the interface with this index served?</param>
/// <param name="list">Lists all interfaces; null asks the kernel.</param>
internal sealed class ProgramAttachment(
    string interfaceName, InterfaceSettings settings, ILogger logger, Func<int, bool> isServed,
    Func<IReadOnlyList<NetworkInterfaceInfo>>? list = null)
{
    /// <summary>
    /// Between two attempts to take an interface that is missing, down or held by another program. Nothing is changed
    /// by them.
    /// </summary>
    internal const long RetryAfter = 2_000;

    // Between two looks at a program that is in the way.
    private static readonly TimeSpan s_holderPause = TimeSpan.FromMilliseconds(10);

    private readonly RetryPause _retry = new();
    private SteeringProgram? _loaded;
    private SourceLists _sources = SourceLists.None;
    private long _nextAttempt;

    /// <summary>Null while it is not attached. Its counters are for any thread.</summary>
    internal SteeringProgram? Program { get; private set; }

    /// <summary>The interface as it was seen last; null when there is none. Any thread.</summary>
    internal NetworkInterfaceInfo? Device { get; private set; }

    /// <summary>Addresses of other interfaces that it may serve, as they were seen last.</summary>
    internal IReadOnlyList<InterfaceAddress> Elsewhere { get; private set; } = [];

    /// <summary>Addresses of other interfaces that are served, as they were seen last.</summary>
    internal IReadOnlyList<InterfaceAddress> OfOthers { get; private set; } = [];

    /// <summary>Native or generic, once the program is attached.</summary>
    internal AttachMode Mode { get; private set; }

    /// <summary>Why the interface is not served; null when it is.</summary>
    internal string? Failure { get; private set; } = "it has not been tried";

    /// <summary>May it be tried now to attach, or to open queues?</summary>
    internal bool MayTry(long now) => now >= _nextAttempt;

    /// <summary>Somebody else has taken the program off, or the device is gone.</summary>
    internal bool IsDetached => Program is { IsAttached: false };

    /// <summary>The device has other queues than when it was seen last (<c>ethtool -L</c>).</summary>
    internal bool HasOtherQueues =>
        Program is not null && Device is { } device
        && NetworkInterfaceInfo.ReadRxQueues(device.Name) is { } queues && queues != device.RxQueues;

    /// <summary>
    /// The interface as it is now; null when there is none. While the program is attached it is known by its index: it
    /// may have another name by now, and another one its name.
    /// </summary>
    /// <param name="all">All interfaces.</param>
    internal NetworkInterfaceInfo? FindDevice(IReadOnlyList<NetworkInterfaceInfo> all) =>
        Program is not null && Device is { } device
            ? all.FirstOrDefault(i => i.Index == device.Index)
            : all.FirstOrDefault(i => i.IsNamed(interfaceName));

    /// <summary>
    /// Looks at the device and loads the program, which changes nothing on the interface. False, with a
    /// <see cref="Failure"/>, when it cannot be served.
    /// </summary>
    /// <param name="patience">How long to wait for a predecessor's program to go.</param>
    /// <param name="sources">Who may send to the endpoints.</param>
    /// <param name="now">In milliseconds.</param>
    internal bool TryLoad(TimeSpan patience, SourceLists sources, long now)
    {
        RetrySoon(now);
        SteeringProgram? program = null;
        try
        {
            IReadOnlyList<NetworkInterfaceInfo> all = (list ?? NetworkInterfaceInfo.List)();
            Device = all.FirstOrDefault(i => i.IsNamed(interfaceName));
            if (Device is null)
                return Refuse($"there is no interface {interfaceName}");
            Elsewhere = InterfaceSelector.Elsewhere(Device, all, settings.LocalAddresses);
            OfOthers = InterfaceSelector.OfOthers(Device, all, isServed);
            if (!Device.IsUp)
                return Refuse($"the interface {interfaceName} is down");
            if (VlanTags.WhyNot(Device, all) is { } hidden)
                return Refuse(hidden);
            if (XdpPrivileges.FindMissing() is { Count: > 0 } missing)
                return Refuse(string.Join("; ", missing));
            if (WaitForHolder(Device.Index, patience) is { } holder)
            {
                return Refuse(
                    $"{interfaceName} is held by XDP program {holder.ProgramId} \"{holder.ProgramName}\" "
                    + $"({holder.Mode}); see bpftool net");
            }
            program = SteeringProgram.Load();
            program.SetMac(Device.Mac);
            SetSources(program, sources);
            _loaded = program;
            return true;
        }
        catch (Exception e)
        {
            program?.Dispose();
            return Refuse(e);
        }
    }

    /// <summary>
    /// After <see cref="TryLoad"/>: attaches the program, without an endpoint in it. False, with a
    /// <see cref="Failure"/>, when that is refused; the program is gone then.
    /// </summary>
    internal bool TryAttach(TimeSpan patience, long now)
    {
        try
        {
            (Mode, _) = _loaded!.Attach(Device!.Index, settings.AttachMode, patience);
            Program = _loaded;
            Failure = null;
            return true;
        }
        catch (Exception e)
        {
            Release(e.Message, now);
            RetryLater(now);
            return Refuse(e);
        }
    }

    /// <summary>While the program is attached: it keeps out whom these lists do.</summary>
    internal void FollowSources(SourceLists sources)
    {
        if (Program is { } program && sources.DifferenceTo(_sources) is not null)
            SetSources(program, sources);
    }

    /// <summary>Nothing is steered any more. The maps stay until <see cref="Release"/>.</summary>
    internal void Detach() => Program?.Detach();

    /// <summary>
    /// The program goes. After <see cref="Detach"/>.
    /// </summary>
    internal void Release(string reason, long now)
    {
        Failure = reason;
        SteeringProgram? loaded = _loaded;
        _loaded = Program = null;
        RetrySoon(now);
        loaded?.Dispose();
    }

    /// <summary>While the program is not attached: is the device such that it is worth another try at once?</summary>
    internal void ConsiderDevice(NetworkInterfaceInfo? device)
    {
        // Attaching and detaching make a driver tell of changes as well: those are no reason to try again.
        if (device is not { IsUp: true })
            Device = device;
        else if (!LooksLike(device, Device))
            TryAtOnce();
    }

    /// <summary>While the program is attached: what has changed of the device that it is attached to.</summary>
    /// <param name="device">What it is now.</param>
    /// <param name="all">All interfaces.</param>
    internal void FollowDevice(NetworkInterfaceInfo device, IReadOnlyList<NetworkInterfaceInfo> all)
    {
        if (!device.Mac.Equals(Device!.Mac))
            Program!.SetMac(device.Mac);
        if (device.Name != Device.Name)
            TransportLog.InterfaceRenamed(logger, interfaceName, device.Name);
        if (device.RxQueues > Device.RxQueues)
            Program!.CoverNewQueues();
        if (device.RxQueues != Device.RxQueues)
        {
            TransportLog.QueuesChanged(logger, interfaceName, device.RxQueues);
            TryAtOnce();
        }
        Device = device;
        Elsewhere = InterfaceSelector.Elsewhere(device, all, settings.LocalAddresses);
        OfOthers = InterfaceSelector.OfOthers(device, all, isServed);
    }

    /// <summary>The device is gone. Once there is one again, it is tried at once.</summary>
    internal void ForgetDevice() => Device = null;

    /// <summary>
    /// After <see cref="Release"/>: it is not tried again before the device changes. Somebody wants it so, or it does
    /// not work there.
    /// </summary>
    internal void GiveUp() => _nextAttempt = long.MaxValue;

    /// <summary>The interface is served, by some of its queues at least.</summary>
    internal void QueuesOpened(bool all, long now)
    {
        Failure = null;
        if (all)
            _retry.Reset();
        else
            RetryLater(now);
    }

    /// <summary>After a failure that costs nothing to find again.</summary>
    internal void RetrySoon(long now) => _nextAttempt = now + RetryAfter;

    /// <summary>After a failure that takes something to find again: see <see cref="RetryPause"/>.</summary>
    internal void RetryLater(long now) => _nextAttempt = now + (long)_retry.Next().TotalMilliseconds;

    private void TryAtOnce()
    {
        _retry.Reset();
        _nextAttempt = 0;
    }

    // The program that is still in the way in the end; null when none is.
    private static XdpAttachment? WaitForHolder(int device, TimeSpan patience)
    {
        long start = Stopwatch.GetTimestamp();
        while (XdpLink.Query(device) is { } holder)
        {
            if (Stopwatch.GetElapsedTime(start) >= patience)
                return holder;
            Thread.Sleep(s_holderPause);
        }
        return null;
    }

    // Meanwhile nobody comes in whom neither the old lists nor the new ones let in.
    private void SetSources(SteeringProgram program, SourceLists sources)
    {
        program.SetDeniedSources(
            _sources.Denied.Length > 0 ? [.. _sources.Denied.Union(sources.Denied)] : sources.Denied);
        program.SetAllowedSources(sources.Allowed);
        program.SetDeniedSources(sources.Denied);
        _sources = sources;
    }

    private bool Refuse(Exception e)
    {
        if (e is XdpException { Details: { } details })
            TransportLog.RefusalDetails(logger, interfaceName, details);
        return Refuse(e.Message);
    }

    private bool Refuse(string reason)
    {
        Failure = reason;
        return false;
    }

    // As far as it decides whether the interface can be served.
    private static bool LooksLike(NetworkInterfaceInfo device, NetworkInterfaceInfo? other) =>
        other is not null
        && (device.Index, device.IsUp, device.Mtu, device.RxQueues, device.TxQueues, device.MasterIndex)
            == (other.Index, other.IsUp, other.Mtu, other.RxQueues, other.TxQueues, other.MasterIndex)
        && device.Mac.Equals(other.Mac);
}
