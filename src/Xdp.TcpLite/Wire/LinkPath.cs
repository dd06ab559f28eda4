using System.Buffers.Binary;

namespace Xdp.TcpLite;

/// <summary>What a packet begins with.</summary>
public enum LinkType
{
    /// <summary>Ethernet II, with up to two VLAN tags.</summary>
    Ethernet,

    /// <summary>IPv4 or IPv6, as a tun device has it.</summary>
    Ip,
}

/// <summary>
/// How a peer is reached on the link: MAC addresses, as 48-bit big-endian numbers, and up to two VLAN tags, outermost
/// first. A tag has its TPID in the upper half and its TCI in the lower.
/// </summary>
public readonly record struct LinkPath(
    ulong LocalMac, ulong RemoteMac, int TagCount = 0, uint OuterTag = 0, uint InnerTag = 0)
{
    /// <summary>Bytes of an Ethernet header without tags.</summary>
    internal const int EthernetLength = 14;

    /// <summary>Bytes of one tag.</summary>
    internal const int TagLength = 4;

    /// <summary>Bytes of an Ethernet header with all the tags it may have.</summary>
    internal const int MaxHeaderLength = EthernetLength + 2 * TagLength;

    private const int NoHeader = -1;

    /// <summary>No Ethernet header at all: packets begin with IP (<see cref="LinkType.Ip"/>).</summary>
    public static LinkPath IpOnly { get; } = new(0, 0, NoHeader);

    /// <summary>Bytes of the Ethernet header with its tags: 14, 18 or 22; 0 where packets begin with IP.</summary>
    public int HeaderLength => TagCount == NoHeader ? 0 : EthernetLength + TagCount * TagLength;

    public static uint Tag(ushort tpid, ushort tci) => (uint)tpid << 16 | tci;

    /// <summary>Writes the header of a frame to the peer: <see cref="HeaderLength"/> bytes.</summary>
    internal void Write(Span<byte> destination, ushort etherType)
    {
        if (TagCount == NoHeader)
            return;
        // A MAC is written as the upper part of eight bytes. What follows overwrites the last two.
        BinaryPrimitives.WriteUInt64BigEndian(destination, RemoteMac << 16);
        BinaryPrimitives.WriteUInt64BigEndian(destination[6..], LocalMac << 16);
        int offset = 12;
        if (TagCount > 0)
        {
            BinaryPrimitives.WriteUInt32BigEndian(destination[offset..], OuterTag);
            offset += TagLength;
        }
        if (TagCount > 1)
        {
            BinaryPrimitives.WriteUInt32BigEndian(destination[offset..], InnerTag);
            offset += TagLength;
        }
        BinaryPrimitives.WriteUInt16BigEndian(destination[offset..], etherType);
    }

    /// <summary>The MAC address in the first six bytes.</summary>
    public static ulong ReadMac(ReadOnlySpan<byte> source) =>
        (ulong)BinaryPrimitives.ReadUInt16BigEndian(source) << 32 | BinaryPrimitives.ReadUInt32BigEndian(source[2..]);
}
