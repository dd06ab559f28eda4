using System.Collections;
using System.Runtime.CompilerServices;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Options;

/// <summary>
/// What an interface and its queues are made with. Hosts of one process that share an interface share these: the first
/// host's hold. They have the names of the options they come from.
/// </summary>
internal sealed class InterfaceSettings
{
    // Each setting adds itself when it is set. So comparing cannot miss one that is added to this class later.
    private readonly OrderedDictionary<string, object?> _byName = [];

    internal required AttachMode AttachMode { get; init => field = Named(value); }

    internal required BindMode BindMode { get; init => field = Named(value); }

    internal required LocalAddresses LocalAddresses { get; init => field = Named(value); }

    /// <summary>By number; null is all.</summary>
    internal required IReadOnlyList<int>? Queues { get; init => field = Named(value); }

    /// <summary>Null: what the rings and the work between them take.</summary>
    internal required int? FramesPerQueue { get; init => field = Named(value); }

    /// <summary>Bytes of frames over all queues of the process.</summary>
    internal required long MemoryBudget { get; init => field = Named(value); }

    /// <summary>Entries of the RX and the FILL ring.</summary>
    internal required int ReceiveRingSize { get; init => field = Named(value); }

    /// <summary>Entries of the TX ring.</summary>
    internal required int TransmitRingSize { get; init => field = Named(value); }

    internal required TimeSpan BusySpin { get; init => field = Named(value); }

    /// <summary>Bytes that a connection's receive buffer grows to.</summary>
    internal required int ReceiveBufferMax { get; init => field = Named(value); }

    /// <summary>Bytes that a connection sends ahead of the peer's acknowledgements.</summary>
    internal required int SendBufferMax { get; init => field = Named(value); }

    internal required CongestionAlgorithm CongestionControl { get; init => field = Named(value); }

    /// <summary>Null probes no peer.</summary>
    internal required TimeSpan? KeepAliveTime { get; init => field = Named(value); }

    internal required TimeSpan KeepAliveInterval { get; init => field = Named(value); }

    internal required int KeepAliveCount { get; init => field = Named(value); }

    internal required TimeSpan UserTimeout { get; init => field = Named(value); }

    internal required int Backlog { get; init => field = Named(value); }

    internal required bool NoDelay { get; init => field = Named(value); }
    internal required bool SegmentationOffload { get; init => field = Named(value); }

    /// <summary>What the administrator has set, and none of the options above is for.</summary>
    internal required TcpStackOptions Sysctls { get; init => field = Named(value); }

    /// <summary>Continuations of the application run in the worker's turn.</summary>
    internal required bool UnsafePreferInlineScheduling { get; init => field = Named(value); }

    /// <summary>
    /// Copies what the options say now. What they leave open is the socket transport's, or the administrator's.
    /// </summary>
    internal static InterfaceSettings From(
        XdpTransportOptions options, SocketTransportOptions sockets, TcpSysctls sysctls)
    {
        return new InterfaceSettings
        {
            AttachMode = options.AttachMode,
            BindMode = options.BindMode,
            LocalAddresses = options.LocalAddresses,
            Queues = options.Queues is { } queues ? [.. queues] : null,
            FramesPerQueue = options.FramesPerQueue,
            MemoryBudget = options.MemoryBudget,
            ReceiveRingSize = options.ReceiveRingSize,
            TransmitRingSize = options.TransmitRingSize,
            BusySpin = options.BusySpin,
            ReceiveBufferMax = options.ReceiveBufferMax ?? sysctls.Stack.ReceiveBufferMax,
            SendBufferMax = options.SendBufferMax ?? sysctls.Stack.SendBufferMax,
            CongestionControl = options.CongestionControl ?? sysctls.Stack.CongestionControl,
            KeepAliveTime = options.KeepAliveTime,
            KeepAliveInterval = options.KeepAliveInterval ?? sysctls.Stack.KeepAliveInterval,
            KeepAliveCount = options.KeepAliveCount ?? sysctls.Stack.KeepAliveCount,
            UserTimeout = options.UserTimeout ?? sysctls.Stack.UserTimeout,
            Backlog = options.Backlog ?? Math.Min(sockets.Backlog, sysctls.MaxBacklog),
            Sysctls = sysctls.Stack,
            NoDelay = options.NoDelay ?? sockets.NoDelay,
            SegmentationOffload = options.SegmentationOffload,
            UnsafePreferInlineScheduling = options.UnsafePreferInlineScheduling ?? sockets.UnsafePreferInlineScheduling,
        };
    }

    /// <summary>
    /// The names of the settings that <paramref name="other"/> has with other values; none when both are equal.
    /// </summary>
    internal IReadOnlyList<string> DifferencesTo(InterfaceSettings other) =>
        [.. _byName.Where(setting => !Same(setting.Value, other._byName[setting.Key])).Select(setting => setting.Key)];

    private T Named<T>(T value, [CallerMemberName] string name = "")
    {
        _byName[name] = value;
        return value;
    }

    private static bool Same(object? mine, object? theirs) =>
        mine is IEnumerable list && theirs is IEnumerable other
            ? list.Cast<object>().SequenceEqual(other.Cast<object>())
            : Equals(mine, theirs);
}
