using Kestrel.Transport.Xdp.Internal.Options;
using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// What a queue is made of: its interface's settings, and what is its own. Sizes in entries and frames.
/// </summary>
internal sealed record QueueSettings
{
    /// <summary>
    /// Bytes of a frame: the smaller of the two sizes the kernel takes. It holds an Ethernet packet of 1792 bytes.
    /// </summary>
    internal const int FrameSize = 2048;

    // Ethernet with two VLAN tags.
    private const int LargestLinkHeader = 22;

    internal required InterfaceSettings Interface { get; init; }
    internal required string InterfaceName { get; init; }
    internal required int InterfaceIndex { get; init; }
    internal required int QueueId { get; init; }

    /// <summary>Bytes of the largest IP packet that fits a frame.</summary>
    internal const int LargestPacket = FrameSize - Umem.RxHeadroom - LargestLinkHeader;

    /// <summary>Largest IP packet, in bytes.</summary>
    internal required int Mtu { get; init; }

    /// <summary>A received packet may take several frames. One that is sent takes one.</summary>
    internal required bool MultiBuffer { get; init; }

    /// <summary>
    /// Packets come with partial checksums: local traffic of veth, tap and lo; and in generic mode what GRO has put
    /// together, whose parts the kernel has checked.
    /// </summary>
    internal required bool AcceptPartialChecksum { get; init; }

    /// <summary>What the memory budget has granted.</summary>
    internal required int FrameCount { get; init; }

    /// <summary>32 bytes, the same for every queue of the process.</summary>
    internal required ReadOnlyMemory<byte> Secret { get; init; }

    internal TimeSpan BusySpin => Interface.BusySpin;

    /// <summary>Continuations of the application run in the worker's turn.</summary>
    internal bool Inline => Interface.UnsafePreferInlineScheduling;

    /// <summary>
    /// Frames kept on the FILL ring: half of all at most, so that there is something left to answer with.
    /// </summary>
    internal int FillTarget => Math.Min(Interface.ReceiveRingSize, FrameCount / 2);

    /// <summary>Free frames that transmit never takes.</summary>
    internal int ReceiveReserve => FrameCount / 8;

    internal XskOptions ToXskOptions() => new()
    {
        InterfaceIndex = InterfaceIndex,
        QueueId = QueueId,
        RxRingSize = Interface.ReceiveRingSize,
        FillRingSize = Interface.ReceiveRingSize,
        TxRingSize = Interface.TransmitRingSize,
        BindMode = Interface.BindMode,
        MultiBuffer = MultiBuffer,
    };

    internal TcpStackOptions ToStackOptions() => Interface.Sysctls with
    {
        Mtu = Math.Min(Mtu, LargestPacket),
        ReceiveMtu = MultiBuffer ? Mtu : null,
        AcceptPartialChecksum = AcceptPartialChecksum,
        Backlog = Interface.Backlog,
        NoDelay = Interface.NoDelay,
        ReceiveBufferMax = Interface.ReceiveBufferMax,
        SendBufferMax = Interface.SendBufferMax,
        CongestionControl = Interface.CongestionControl,
        KeepAlive = Interface.KeepAliveTime,
        KeepAliveInterval = Interface.KeepAliveInterval,
        KeepAliveCount = Interface.KeepAliveCount,
        UserTimeout = Interface.UserTimeout,
    };
}
