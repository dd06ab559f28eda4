using System.Collections.Concurrent;
using Xdp.Sockets;
using Xdp.Sockets.Net;

namespace Kestrel.Transport.Xdp.Internal;

// The queues of the interface: opened together, closed together, replaced one by one when they fail.
internal sealed partial class XdpEngine
{
    private readonly ConcurrentQueue<(XdpQueue Queue, string Reason)> _failed = new();
    private volatile XdpQueue[] _queues = [];
    private Dictionary<int, string> _refusals = [];

    /// <summary>The queues that are open. Any thread.</summary>
    internal IReadOnlyList<XdpQueue> Queues => _queues;

    public int QueueCount => _queues.Length;

    public XdpQueue? Next(XdpQueue queue)
    {
        XdpQueue[] queues = _queues;
        int index = Array.IndexOf(queues, queue);
        return index < 0 || queues.Length < 2 ? null : queues[(index + 1) % queues.Length];
    }

    public void Failed(XdpQueue queue, string reason)
    {
        _failed.Enqueue((queue, reason));
        _changed.Set();
    }

    // Every queue of the NIC has a socket, so nothing arrives that only the companion could take.
    private bool AllQueuesServed => _device is { } device && _queues.Length >= device.RxQueues;

    /// <summary>Opens what is not open. False when not one queue is.</summary>
    private bool OpenQueues()
    {
        NetworkInterfaceInfo device = _device!;
        int[] numbers = [.. Settings.Options.Queues ?? Enumerable.Range(0, Math.Min(device.RxQueues, Steering.SteeringProgram.MaxQueues))];
        var queues = new List<XdpQueue>(_queues);
        int[] missing = [.. numbers.Where(n => queues.All(q => q.Settings.QueueId != n))];
        var refusals = new Dictionary<int, string>();
        for (int i = 0; i < missing.Length; i++)
        {
            try
            {
                queues.Add(OpenQueue(device, missing[i], missing.Length - i));
            }
            catch (Exception e) when (e is XdpException or PlatformNotSupportedException or ArgumentException or OutOfMemoryException)
            {
                refusals.Add(missing[i], e.Message);
            }
        }
        if (queues.Count == 0)
        {
            TakeDown(refusals.Count > 0 ? $"queue {refusals.Last().Key}: {refusals.Last().Value}" : "it has no queues");
            RetryLater();
            return false;
        }
        LogRefusals(refusals);
        _queues = [.. queues];
        foreach (XdpQueue queue in queues.Where(q => missing.Contains(q.Settings.QueueId)))
        {
            ListenOn(queue);
            queue.Start();
            _program!.SetXsk(queue.Settings.QueueId, queue.SocketDescriptor);
        }
        Failure = null;
        _incomplete = refusals.Count > 0;
        if (_incomplete)
            RetryLater();
        else
            _openRetry.Reset();
        return true;
    }

    private void RetryLater() => _nextAttempt = Environment.TickCount64 + (long)_openRetry.Next().TotalMilliseconds;

    private XdpQueue OpenQueue(NetworkInterfaceInfo device, int number, int sharers)
    {
        XdpTransportOptions options = Settings.Options;
        if (number >= device.RxQueues)
            throw new ArgumentException($"{InterfaceName} has {device.RxQueues} receive queues, numbered from 0");
        int wanted = options.FramesPerQueue ?? 2 * options.ReceiveRingSize;
        int frames = _registry.Frames.Take(wanted, sharers, options.MemoryBudget);
        if (frames == 0)
            throw new ArgumentException($"MemoryBudget ({options.MemoryBudget >> 20} MiB, {_registry.Frames.Used >> 20} in use) leaves no frames for it");
        try
        {
            return new XdpQueue(this, SettingsFor(device, number, frames), _registry.Blocks, _logger);
        }
        catch
        {
            _registry.Frames.Return(frames);
            throw;
        }
    }

    private QueueSettings SettingsFor(NetworkInterfaceInfo device, int number, int frames) => new()
    {
        InterfaceName = InterfaceName,
        InterfaceIndex = device.Index,
        QueueId = number,
        Mtu = device.Mtu,
        AcceptPartialChecksum = device.IsLoopback || device.Kind is "veth" or "tun",
        FrameCount = frames,
        ReceiveRingSize = Settings.Options.ReceiveRingSize,
        TransmitRingSize = Settings.Options.TransmitRingSize,
        BindMode = Settings.Options.BindMode switch
        {
            BindMode.ZeroCopy => global::Xdp.Sockets.BindMode.ZeroCopy,
            BindMode.Copy => global::Xdp.Sockets.BindMode.Copy,
            _ => global::Xdp.Sockets.BindMode.Auto,
        },
        BusySpin = Settings.Options.BusySpin,
        Inline = Settings.Inline,
        Backlog = Settings.Backlog,
        NoDelay = Settings.NoDelay,
        ReceiveBufferMax = Settings.Options.ReceiveBufferMax,
        SendBufferMax = Settings.Options.SendBufferMax,
        Secret = _registry.Secret,
    };

    // Each reason once, however often it is tried again. Where no queue could be opened, the endpoints' own line says why.
    private void LogRefusals(Dictionary<int, string> refusals)
    {
        foreach (var (queue, reason) in refusals)
        {
            if (_refusals.GetValueOrDefault(queue) != reason)
                XdpLog.QueueRefused(_logger, InterfaceName, queue, reason.TrimEnd('.'));
        }
        _refusals = refusals;
    }

    private void CloseQueues()
    {
        XdpQueue[] queues = _queues;
        _queues = [];
        foreach (XdpQueue queue in queues)
            CloseQueue(queue);
    }

    private void CloseQueue(XdpQueue queue)
    {
        queue.Stop();
        _registry.Frames.Return(queue.Settings.FrameCount);
        foreach (EndpointBinding binding in _bindings)
            binding.Forget(queue);
    }

    private void ReplaceFailedQueues()
    {
        bool any = false;
        while (_failed.TryDequeue(out var failed))
        {
            if (!_queues.Contains(failed.Queue))
                continue;
            XdpLog.QueueFailed(_logger, InterfaceName, failed.Queue.Settings.QueueId, failed.Reason);
            _program?.ClearXsk(failed.Queue.Settings.QueueId);
            _queues = [.. _queues.Where(q => q != failed.Queue)];
            CloseQueue(failed.Queue);
            any = true;
        }
        if (any)
        {
            Reconcile();
            _nextAttempt = Environment.TickCount64 + (long)RetryAfter.TotalMilliseconds;
            _incomplete = true;
        }
        else if (_incomplete && _program is not null && Environment.TickCount64 >= _nextAttempt)
        {
            _incomplete = false;
            if (OpenQueues())
                Reconcile();
        }
    }

    // Queues are missing that may be had later.
    private bool _incomplete;
}
