using System.Collections.Concurrent;
using Kestrel.Transport.Xdp.Internal.Connections;
using Kestrel.Transport.Xdp.Internal.Logging;
using Kestrel.Transport.Xdp.Internal.Options;
using Kestrel.Transport.Xdp.Internal.Queues;
using Kestrel.Transport.Xdp.Internal.Steering;
using Microsoft.Extensions.Logging;
using Xdp.Sockets;
using Xdp.Sockets.Net;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// The queues of one interface: opened together, closed together, replaced one by one when they fail. Owns them, the
/// frames they took from the budget, and why those that are missing were refused.
/// <para>
/// What queues ask of their owner, and <see cref="Open"/>, are for any thread. The rest is for the engine's lock, and
/// not from within a turn.
/// </para>
/// </summary>
/// <param name="interfaceName">The interface's name.</param>
/// <param name="settings">What its queues are made with.</param>
/// <param name="shared">What they share with those of other interfaces.</param>
/// <param name="paths">Whoever finds the way to a silent peer.</param>
/// <param name="failed">A queue has failed: <see cref="RemoveFailed"/> has something to do. Called in a turn.</param>
/// <param name="logger">The engine's.</param>
internal sealed class QueueSet(
    string interfaceName, InterfaceSettings settings, QueueResources shared, PathResolver paths, Action failed,
    ILogger logger)
    : IQueueOwner, IListeningStacks
{
    private readonly ConcurrentQueue<(XdpQueue Queue, string Reason)> _failed = new();
    private volatile XdpQueue[] _queues = [];
    private Dictionary<int, string> _refusals = [];

    /// <summary>The queues that are open.</summary>
    internal IReadOnlyList<XdpQueue> Open => _queues;

    /// <summary>Queues are missing that may be had later.</summary>
    internal bool IsIncomplete { get; private set; }

    public FlowDirectory<QueueSide> Flows => shared.Flows;

    public int QueueCount => _queues.Length;

    public XdpQueue? Next(XdpQueue queue)
    {
        XdpQueue[] queues = _queues;
        int index = Array.IndexOf(queues, queue);
        return index < 0 || queues.Length < 2 ? null : queues[(index + 1) % queues.Length];
    }

    public void PathSuspected(XdpQueue queue, QueueSide connection) => paths.Suspect(queue, connection);

    public void Failed(XdpQueue queue, string reason)
    {
        _failed.Enqueue((queue, reason));
        failed();
    }

    public void Listen(IpAddr address, ushort port, ListeningEndpoint endpoint) =>
        OnStacks(stack => stack.Listen(address, port, endpoint, endpoint.HasRoom));

    public void StopListening(IpAddr address, ushort port) => OnStacks(stack => stack.StopListening(address, port));

    /// <summary>
    /// Opens the queues that are missing, and hands them their packets. Returns why not one is open, or null.
    /// </summary>
    /// <param name="device">The interface.</param>
    /// <param name="maps">Of its program.</param>
    /// <param name="listening">
    /// What the stacks of the open queues listen on: a new one must before packets are sent to it.
    /// </param>
    internal string? OpenMissing(
        NetworkInterfaceInfo device, ISteeringMaps maps, IReadOnlyList<(IpAddr, ushort, ListeningEndpoint)> listening)
    {
        int[] missing = [.. Wanted(device).Where(number => _queues.All(queue => queue.Settings.QueueId != number))];
        var opened = new List<XdpQueue>();
        var refusals = new Dictionary<int, string>();
        for (int i = 0; i < missing.Length; i++)
        {
            try
            {
                opened.Add(OpenQueue(device, missing[i], missing.Length - i));
            }
            catch (Exception e) when (e is XdpException or PlatformNotSupportedException or ArgumentException
                or OutOfMemoryException)
            {
                refusals.Add(missing[i], e.Message);
            }
        }
        if (_queues.Length + opened.Count == 0)
            return refusals.Count > 0 ? $"queue {refusals.Last().Key}: {refusals.Last().Value}" : "it has no queues";
        LogRefusals(refusals);
        _queues = [.. _queues, .. opened];
        foreach (XdpQueue queue in opened)
        {
            queue.Run(stack =>
            {
                foreach (var (address, port, endpoint) in listening)
                    stack.Listen(address, port, endpoint, endpoint.HasRoom);
            });
            queue.Start();
            maps.SetXsk(queue.Settings.QueueId, queue.SocketDescriptor);
        }
        IsIncomplete = refusals.Count > 0;
        return null;
    }

    /// <summary>Closes the queues that have failed, and returns them.</summary>
    internal IReadOnlyList<XdpQueue> RemoveFailed(ISteeringMaps? maps)
    {
        var removed = new List<XdpQueue>();
        while (_failed.TryDequeue(out (XdpQueue Queue, string Reason) failure))
        {
            (XdpQueue queue, string reason) = failure;
            if (!_queues.Contains(queue))
                continue;
            TransportLog.QueueFailed(logger, interfaceName, queue.Settings.QueueId, reason);
            maps?.ClearXsk(queue.Settings.QueueId);
            _queues = [.. _queues.Where(q => q != queue)];
            Close(queue);
            removed.Add(queue);
            IsIncomplete = true;
        }
        return removed;
    }

    /// <summary>Closes all queues, and returns them.</summary>
    internal IReadOnlyList<XdpQueue> CloseAll()
    {
        XdpQueue[] queues = _queues;
        _queues = [];
        foreach (XdpQueue queue in queues)
            Close(queue);
        IsIncomplete = false;
        return queues;
    }

    private IEnumerable<int> Wanted(NetworkInterfaceInfo device) =>
        settings.Queues ?? Enumerable.Range(0, Math.Min(device.RxQueues, SteeringProgram.MaxQueues));

    private XdpQueue OpenQueue(NetworkInterfaceInfo device, int number, int sharers)
    {
        if (number >= device.RxQueues)
            throw new ArgumentException($"{interfaceName} has {device.RxQueues} receive queues, numbered from 0");
        int wanted = settings.FramesPerQueue ?? 2 * settings.ReceiveRingSize;
        int frames = shared.Frames.Take(wanted, sharers, settings.MemoryBudget);
        if (frames == 0)
        {
            long budget = settings.MemoryBudget >> 20, used = shared.Frames.Used >> 20;
            throw new ArgumentException($"MemoryBudget ({budget} MiB, {used} in use) leaves no frames for it");
        }
        try
        {
            return new XdpQueue(this, SettingsFor(device, number, frames), shared.Blocks, logger);
        }
        catch
        {
            shared.Frames.Return(frames);
            throw;
        }
    }

    private QueueSettings SettingsFor(NetworkInterfaceInfo device, int number, int frames) => new()
    {
        Interface = settings,
        InterfaceName = interfaceName,
        InterfaceIndex = device.Index,
        QueueId = number,
        Mtu = device.Mtu,
        AcceptPartialChecksum = device.IsLoopback || device.Kind is "veth" or "tun",
        FrameCount = frames,
        Secret = shared.Secret,
    };

    // Each reason once, however often it is tried again. Where no queue could be opened, the endpoints' own line says
    // why.
    private void LogRefusals(Dictionary<int, string> refusals)
    {
        foreach (var (queue, reason) in refusals)
        {
            if (_refusals.GetValueOrDefault(queue) != reason)
                TransportLog.QueueRefused(logger, interfaceName, queue, reason.TrimEnd('.'));
        }
        _refusals = refusals;
    }

    private void Close(XdpQueue queue)
    {
        queue.Stop();
        shared.Frames.Return(queue.Settings.FrameCount);
    }

    private void OnStacks(Action<TcpStack> action)
    {
        foreach (XdpQueue queue in _queues)
            queue.Run(action);
    }
}
