using System.Buffers.Binary;

namespace Xdp.TcpLite;

/// <summary>
/// Local packets may come with a checksum that covers the pseudo-header only: the sender has left the rest to a device,
/// and there was none (<see cref="TcpStackOptions.AcceptPartialChecksum"/>).
/// </summary>
public static class PartialChecksum
{
    private const int Field = 16;

    /// <summary>Makes it that of the whole segment. What is no whole TCP segment stays as it is.</summary>
    /// <param name="frame">A packet that a stack has accepted, from its Ethernet header on.</param>
    public static void Complete(Span<byte> frame)
    {
        if (IpHeader.Parse(frame, LinkType.Ethernet, out IpHeader ip) != DropReason.None
            || ip.Protocol != Checksum.ProtocolTcp || ip.IsFragment
            || ip.PayloadLength < SegmentWriter.TcpHeaderLength)
        {
            return;
        }
        Span<byte> tcp = frame.Slice(ip.PayloadStart, ip.PayloadLength);
        BinaryPrimitives.WriteUInt16BigEndian(tcp[Field..], 0);
        ulong pseudo = Checksum.PseudoHeader(ip.Source, ip.Destination, Checksum.ProtocolTcp, tcp.Length);
        BinaryPrimitives.WriteUInt16BigEndian(tcp[Field..], (ushort)~Checksum.Fold(Checksum.Sum(tcp, pseudo)));
    }
}
