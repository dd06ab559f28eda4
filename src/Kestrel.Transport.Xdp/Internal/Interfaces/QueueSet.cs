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
/// <param name="routes">Whoever finds the ways to peers.</param>
/// <param name="handOver">What is the companion's.</param>
/// <param name="failed">A queue has failed: <see cref="RemoveFailed"/> has something to do. Called in a turn.</param>
/// <param name="logger">The engine's.</param>
internal sealed class QueueSet(
    string interfaceName, InterfaceSettings settings, QueueResources shared, RouteResolver routes,
    KernelHandOver handOver, Action failed,
    ILogger logger)
    : IQueueOwner, IListeningStacks
{
    // The errno for a UMEM above RLIMIT_MEMLOCK.
    private const int ENOBUFS = 105;

    // Before a queue is opened in the place of another.
    private static readonly TimeSpan s_closingPatience = TimeSpan.FromMilliseconds(100);

    // For the stacks to tell what they have.
    private static readonly TimeSpan s_answerTime = TimeSpan.FromMilliseconds(100);

    private readonly ConcurrentQueue<Failure> _failed = new();
    private readonly List<XdpQueue> _prepared = [];

    // Its own lock.
    private readonly HashSet<(IpAddr, ushort)> _listening = [];

    // Until their turns have ended, which a handler that never returns prevents.
    private readonly List<ClosingQueue> _closing = [];
    private volatile XdpQueue[] _queues = [];
    private Dictionary<int, string> _refusals = [];
    private (int Frames, int Wanted) _shortage;
    private int _toldMtu;

    private sealed record Failure(XdpQueue Queue, string Reason);

    private sealed record ClosingQueue(XdpQueue Queue, Task End);

    /// <summary>The queues that are open.</summary>
    internal IReadOnlyList<XdpQueue> Open => _queues;

    /// <summary>Queues are missing that may be had later.</summary>
    internal bool IsIncomplete { get; private set; }

    public FlowDirectory<QueueSide> Flows => shared.Flows;

    public int QueueCount => shared.Served.Queues.Length;

    public XdpQueue? Next(XdpQueue queue)
    {
        XdpQueue[] queues = shared.Served.Queues;
        int index = Array.IndexOf(queues, queue);
        return index < 0 || queues.Length < 2 ? null : queues[(index + 1) % queues.Length];
    }

    public void AskRoute(XdpQueue queue, in FlowKey flow) => routes.Ask(queue, flow);

    public void PathSuspected(XdpQueue queue, QueueSide connection) => routes.Suspect(queue, connection);

    public void RenewRoutes() => routes.Renew();

    public void AfterAnswers(XdpQueue queue, Action<TcpStack> action) => routes.AfterAnswers(queue, action);

    public void HandOver(XdpQueue queue, in FlowKey flow, HostRoute route, ref BlockQueue packet, bool again)
    {
        // Tables have just changed, if the other queue says so too: the peer tries again.
        if (again)
            packet.ReturnAll();
        else if (shared.Served.QueueFor(route.Ifindex, flow) is { } other)
            queue.Forwarder.HandOver(other, ref packet);
        else
            handOver.Add(queue.Settings.QueueId, packet, flow);
        packet = default;
    }

    public bool SendByKernel(ReadOnlySpan<byte> packet) => routes.Send(packet);

    public void Failed(XdpQueue queue, string reason)
    {
        _failed.Enqueue(new(queue, reason));
        failed();
    }

    /// <summary>Do the stacks accept connections there? Any thread.</summary>
    internal bool ListensOn(IpAddr address, ushort port)
    {
        lock (_listening)
            return _listening.Contains((address, port));
    }

    public void Listen(IpAddr address, ushort port, ListeningEndpoint endpoint)
    {
        OnStacks(stack => Listen(stack, address, port, endpoint));
        bool isNew;
        lock (_listening)
            isNew = _listening.Add((address, port));
        if (isNew)
            shared.Served.ListensElsewhere();
    }

    public void StopListening(IpAddr address, ushort port)
    {
        lock (_listening)
            _listening.Remove((address, port));
        OnStacks(stack => stack.StopListening(address, port));
    }

    public IReadOnlySet<(IpAddr Address, ushort Port)> InUse(IReadOnlySet<(IpAddr Address, ushort Port)> ends)
    {
        Task<HashSet<(IpAddr, ushort)>>[] answers = [.. _queues.Select(queue => FindInUse(queue, ends))];
        // What a turn that may never end has, nobody knows.
        return Task.WaitAll(answers, s_answerTime) ? answers.SelectMany(answer => answer.Result).ToHashSet() : ends;
    }

    /// <summary>
    /// Makes the sockets of the queues that are missing, with their frames. Nothing changes on the interface. Returns
    /// why there is not one, or null.
    /// </summary>
    internal string? PrepareMissing(NetworkInterfaceInfo device)
    {
        Dictionary<int, string> refusals = Prepare(device);
        return WhyNone(_prepared.Count, refusals);
    }

    /// <summary>
    /// Binds the queues that are prepared, or else missing, and hands them their packets. Returns why not one is open,
    /// or null.
    /// </summary>
    /// <param name="device">The interface.</param>
    /// <param name="maps">Of its program.</param>
    /// <param name="listening">
    /// What the stacks of the open queues listen on: a new one must before packets are sent to it.
    /// </param>
    internal string? OpenMissing(
        NetworkInterfaceInfo device, ISteeringMaps maps, IReadOnlyList<StackListener> listening)
    {
        Dictionary<int, string> refusals = Prepare(device);
        XdpQueue[] prepared = [.. _prepared];
        _prepared.Clear();
        foreach (XdpQueue queue in prepared)
        {
            try
            {
                Begin(queue, device, maps, listening);
                // Prepared before the device changed.
                if (queue.Mtu != device.Mtu)
                    queue.ChangeMtu(device.Mtu);
            }
            catch (Exception e)
            {
                // The others are opened all the same.
                refusals.Add(queue.Settings.QueueId, e.Message);
                Close(queue);
            }
        }
        if (WhyNone(0, refusals) is { } reason)
            return reason;
        LogRefusals(refusals);
        IsIncomplete = refusals.Count > 0;
        return null;
    }

    /// <summary>
    /// The device has changed. Queues that it has now and had not before are missing, and packets have its present MTU.
    /// </summary>
    internal void Follow(NetworkInterfaceInfo device)
    {
        XdpQueue[] queues = _queues;
        IsIncomplete |= queues.Length > 0 && Missing(device, queues).Length > 0;
        foreach (XdpQueue queue in queues)
            queue.SendRunsAsOne(MaySendRunsAsOne(device));
        XdpQueue[] changed = [.. queues.Where(queue => queue.Mtu != device.Mtu)];
        foreach (XdpQueue queue in changed)
            queue.ChangeMtu(device.Mtu);
        if (changed.Length > 0)
            TransportLog.MtuChanged(logger, interfaceName, device.Mtu, changed.Min(queue => queue.LargestReceived));
    }

    /// <summary>Has the queues closed that have failed, and returns them.</summary>
    internal IReadOnlyList<XdpQueue> RemoveFailed(ISteeringMaps? maps)
    {
        var removed = new List<XdpQueue>();
        while (_failed.TryDequeue(out Failure? failure))
        {
            (XdpQueue queue, string reason) = failure;
            if (!_queues.Contains(queue))
                continue;
            TransportLog.QueueFailed(logger, interfaceName, queue.Settings.QueueId, reason);
            Publish([.. _queues.Where(q => q != queue)], queue);
            new CleanUp(logger, interfaceName).Do(() => maps?.ClearXsk(queue.Settings.QueueId));
            Close(queue);
            removed.Add(queue);
            IsIncomplete = true;
        }
        return removed;
    }

    /// <summary>
    /// The queues that were to be closed and are not yet: none, once the task has ended. None holds up the others.
    /// </summary>
    internal (IReadOnlyList<XdpQueue> Queues, Task End) Closing()
    {
        _closing.RemoveAll(static closing => closing.End.IsCompleted);
        return ([.. _closing.Select(static closing => closing.Queue)],
            Task.WhenAll(_closing.Select(static closing => closing.End)));
    }

    /// <summary>Has all queues closed, and returns them. See <see cref="Closing"/>.</summary>
    internal IReadOnlyList<XdpQueue> CloseAll()
    {
        XdpQueue[] queues = [.. _queues, .. _prepared];
        if (queues.Length > 0)
            Publish([], queues[0]);
        lock (_listening)
            _listening.Clear();
        _prepared.Clear();
        foreach (XdpQueue queue in queues)
            Close(queue);
        IsIncomplete = false;
        return queues;
    }

    // Numbers of queues that are wanted and not among these.
    private int[] Missing(NetworkInterfaceInfo device, IReadOnlyList<XdpQueue> queues)
    {
        var missing = new List<int>();
        int count = settings.Queues?.Count ?? Math.Min(device.RxQueues, SteeringProgram.MaxQueues);
        for (int i = 0; i < count; i++)
        {
            int number = settings.Queues?[i] ?? i;
            if (queues.All(queue => queue.Settings.QueueId != number) && !missing.Contains(number))
                missing.Add(number);
        }
        return [.. missing];
    }

    // Why those are refused that could not be made.
    private Dictionary<int, string> Prepare(NetworkInterfaceInfo device)
    {
        int[] missing = Missing(device, [.. _queues, .. _prepared]);
        if (missing.Length > 0)
            LogTooLarge(device);
        var refusals = new Dictionary<int, string>();
        AwaitPredecessors(missing);
        for (int i = 0; i < missing.Length; i++)
        {
            try
            {
                if (_closing.Any(closing => closing.Queue.Settings.QueueId == missing[i]))
                    throw new InvalidOperationException("the queue that was there before is not closed yet");
                _prepared.Add(Prepare(device, missing[i], missing.Length - i));
            }
            catch (Exception e)
            {
                refusals.Add(missing[i], e.Message);
            }
        }
        LogShortage();
        return refusals;
    }

    private string? WhyNone(int opened, Dictionary<int, string> refusals) =>
        _queues.Length + opened > 0 ? null
        : refusals.Count > 0 ? $"queue {refusals.Last().Key}: {refusals.Last().Value}"
        : "it has no queues";

    private XdpQueue Prepare(NetworkInterfaceInfo device, int number, int sharers)
    {
        if (number >= device.RxQueues)
            throw new ArgumentException($"{interfaceName} has {device.RxQueues} receive queues, numbered from 0");
        int wanted = FramesWanted;
        while (true)
        {
            int frames = shared.Frames.Take(wanted, sharers, settings.MemoryBudget);
            if (frames == 0)
                throw new ArgumentException(shared.Frames.WhyNone(settings.MemoryBudget));
            try
            {
                return new XdpQueue(this, SettingsFor(device, number, frames), shared.Blocks, logger);
            }
            catch (XdpException e)
                when (e.Errno == ENOBUFS && frames / 2 >= XdpOptionsValidator.SmallestFrameCount)
            {
                // Other processes of the same user count against the memory-lock limit as well.
                shared.Frames.Return(frames);
                wanted = frames / 2;
            }
            catch
            {
                shared.Frames.Return(frames);
                throw;
            }
        }
    }

    private int FramesWanted => settings.FramesPerQueue ?? 2 * settings.ReceiveRingSize;

    private QueueSettings SettingsFor(NetworkInterfaceInfo device, int number, int frames) => new()
    {
        Interface = settings,
        InterfaceName = interfaceName,
        InterfaceIndex = device.Index,
        QueueId = number,
        Mtu = device.Mtu,
        MultiBuffer = WantsMultiBuffer(device) && shared.KernelHasMultiBuffer(),
        AcceptPartialChecksum = IsGeneric || device.IsLoopback || device.Kind is "veth" or "tun",
        FrameCount = frames,
        Secret = shared.Secret,
    };

    private bool IsGeneric => settings.AttachMode == AttachMode.Generic;

    // Not where each packet fits a frame: some drivers have zero-copy only without it.
    private bool WantsMultiBuffer(NetworkInterfaceInfo device) =>
        IsGeneric || device.Mtu > QueueSettings.LargestPacket;

    // Not where they could be overtaken by what is on the ring: in a queue of the kernel's, or by another queue of the
    // device's. Nor where the other end of the veth has an XDP program, which would see partial checksums.
    private bool MaySendRunsAsOne(NetworkInterfaceInfo device) => settings.SegmentationOffload
        && device is { Kind: "veth", QueueingDiscipline: "noqueue", TxQueues: 1, MaySegmentTcp: true };

    // What it costs that the kernel has no packets of several frames: once, as long as the MTU stays the same.
    private void LogTooLarge(NetworkInterfaceInfo device)
    {
        if (!WantsMultiBuffer(device) || device.Mtu == _toldMtu || shared.KernelHasMultiBuffer())
            return;
        _toldMtu = device.Mtu;
        if (IsGeneric)
            TransportLog.GenericWithoutMultiBuffer(logger, interfaceName, QueueSettings.LargestPacket);
        else
            TransportLog.MtuWithoutMultiBuffer(logger, interfaceName, device.Mtu, QueueSettings.LargestPacket);
    }

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

    // What the memory-lock limit costs: once, as long as it stays the same.
    private void LogShortage()
    {
        if (shared.Frames.MemoryLock is not { } limit)
            return;
        XdpQueue[] queues = [.. _queues, .. _prepared];
        (int Frames, int Wanted) shortage =
            (queues.Sum(queue => queue.Settings.FrameCount), queues.Length * FramesWanted);
        long needed = (long)shortage.Wanted * QueueSettings.FrameSize;
        if (shortage.Frames < shortage.Wanted && needed <= settings.MemoryBudget && shortage != _shortage)
            TransportLog.FewerFrames(
                logger, interfaceName, shortage.Frames, shortage.Wanted, limit >> 10, needed >> 10);
        _shortage = shortage;
    }

    // The program sends it packets once everything else is done.
    private void Begin(
        XdpQueue queue, NetworkInterfaceInfo device, ISteeringMaps maps, IReadOnlyList<StackListener> listening)
    {
        queue.Bind();
        queue.Run(stack =>
        {
            foreach (StackListener listener in listening)
                Listen(stack, listener.Address, listener.Port, listener.Endpoint);
        });
        queue.Start();
        queue.SendRunsAsOne(MaySendRunsAsOne(device));
        Publish([.. _queues, queue], queue);
        routes.Begin(queue);
        try
        {
            maps.SetXsk(queue.Settings.QueueId, queue.SocketDescriptor);
        }
        catch
        {
            Publish([.. _queues.Where(q => q != queue)], queue);
            throw;
        }
    }

    // All queues of a set are of one device.
    private void Publish(XdpQueue[] queues, XdpQueue of)
    {
        _queues = queues;
        shared.Served.Set(of.Settings.InterfaceIndex, this);
    }

    // On a thread of its own: whoever closes a queue holds the engine's lock, and a turn may never end.
    private void Close(XdpQueue queue)
    {
        try
        {
            Task end = Task.Factory.StartNew(
                Stop, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
            _closing.Add(new(queue, end));
        }
        catch (OutOfMemoryException)
        {
            // The system has no thread to spare.
            Stop();
        }

        void Stop()
        {
            new CleanUp(logger, interfaceName).Do(queue.Stop);
            shared.Frames.Return(queue.Settings.FrameCount);
        }
    }

    // A queue whose turns end is closed in no time.
    private void AwaitPredecessors(int[] missing)
    {
        Task[] ends =
            [.. _closing.Where(c => missing.Contains(c.Queue.Settings.QueueId)).Select(static closing => closing.End)];
        _ = Task.WaitAll(ends, s_closingPatience);
        _closing.RemoveAll(static closing => closing.End.IsCompleted);
    }

    private static void Listen(TcpStack stack, IpAddr address, ushort port, ListeningEndpoint endpoint) =>
        stack.Listen(address, port, endpoint, endpoint.HasRoom, endpoint.Tcp.Over(stack.Options));

    private static Task<HashSet<(IpAddr, ushort)>> FindInUse(
        XdpQueue queue, IReadOnlySet<(IpAddr Address, ushort Port)> ends)
    {
        var answer = new TaskCompletionSource<HashSet<(IpAddr, ushort)>>(
            TaskCreationOptions.RunContinuationsAsynchronously);
        queue.Ask(stack =>
        {
            var found = new HashSet<(IpAddr, ushort)>();
            stack.FindInUse(ends, found);
            answer.SetResult(found);
        });
        return answer.Task;
    }

    private void OnStacks(Action<TcpStack> action)
    {
        foreach (XdpQueue queue in _queues)
            queue.Ask(action);
    }
}
