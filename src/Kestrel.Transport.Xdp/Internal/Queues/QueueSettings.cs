using Xdp.Sockets;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>What a queue is made of. Sizes in entries and frames.</summary>
internal sealed record QueueSettings
{
    /// <summary>Bytes of a frame: the smaller of the two sizes the kernel takes; it holds an Ethernet packet of 1792 bytes.</summary>
    internal const int FrameSize = 2048;

    internal required string InterfaceName { get; init; }
    internal required int InterfaceIndex { get; init; }
    internal required int QueueId { get; init; }

    /// <summary>Largest IP packet, in bytes.</summary>
    internal required int Mtu { get; init; }

    /// <summary>The device delivers local traffic with partial checksums: veth, tap, lo.</summary>
    internal required bool AcceptPartialChecksum { get; init; }

    internal required int FrameCount { get; init; }
    internal required int ReceiveRingSize { get; init; }
    internal required int TransmitRingSize { get; init; }
    internal required global::Xdp.Sockets.BindMode BindMode { get; init; }
    internal required TimeSpan BusySpin { get; init; }

    /// <summary>Continuations of the application run in the worker's turn.</summary>
    internal required bool Inline { get; init; }

    internal required int Backlog { get; init; }
    internal required bool NoDelay { get; init; }
    internal required int ReceiveBufferMax { get; init; }
    internal required int SendBufferMax { get; init; }

    /// <summary>32 bytes, the same for every queue of the process.</summary>
    internal required ReadOnlyMemory<byte> Secret { get; init; }

    /// <summary>Frames kept on the FILL ring: half of all at most, so that there is something left to answer with.</summary>
    internal int FillTarget => Math.Min(ReceiveRingSize, FrameCount / 2);

    /// <summary>Free frames that transmit never takes.</summary>
    internal int ReceiveReserve => FrameCount / 8;

    internal XskOptions ToXskOptions() => new()
    {
        InterfaceIndex = InterfaceIndex,
        QueueId = QueueId,
        RxRingSize = ReceiveRingSize,
        FillRingSize = ReceiveRingSize,
        TxRingSize = TransmitRingSize,
        BindMode = BindMode,
    };

    internal global::Xdp.TcpLite.TcpStackOptions ToStackOptions() => new()
    {
        Mtu = Math.Min(Mtu, FrameSize - Umem.RxHeadroom - LargestLinkHeader),
        AcceptPartialChecksum = AcceptPartialChecksum,
        Backlog = Backlog,
        NoDelay = NoDelay,
        ReceiveBufferMax = ReceiveBufferMax,
        SendBufferMax = SendBufferMax,
    };

    // Ethernet with two VLAN tags.
    private const int LargestLinkHeader = 22;
}
