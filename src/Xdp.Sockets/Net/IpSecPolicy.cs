using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Net;

/// <summary>An IPsec policy (xfrm) that encrypts, or forbids, packets that it selects.</summary>
/// <param name="Direction">Of the packets.</param>
/// <param name="Index">Of the interface it is for; 0 for all.</param>
/// <param name="Port">Of ours, that it is for, and under which mask; mask 0 for all.</param>
/// <param name="Blocks">It forbids.</param>
internal sealed record IpSecPolicy(
    SegmentDirection Direction, int Index, (int Value, int Mask) Port, bool Blocks)
{
    private const ushort XFRM_MSG_NEWPOLICY = 0x13, XFRM_MSG_GETPOLICY = 0x15, XFRMA_TMPL = 5;

    // struct xfrm_userpolicy_info: struct xfrm_selector (56 bytes), lifetime (64 and 32), priority, index, dir, action
    private const int DestinationPort = 32, DestinationMask = 34, SourcePort = 36, SourceMask = 38, Protocol = 44,
        Interface = 48, Way = 160, Action = 161, Length = 168;

    /// <summary>In the calling thread's network namespace. None where the kernel does not tell.</summary>
    internal static IReadOnlyList<IpSecPolicy> Read()
    {
        var policies = new List<IpSecPolicy>();
        try
        {
            using NetlinkSocket socket = NetlinkSocket.Open(protocol: NetlinkNative.NETLINK_XFRM);
            // struct xfrm_userpolicy_id has 64 bytes.
            _ = socket.Request(
                NetlinkRequest.Create(XFRM_MSG_GETPOLICY, dump: true, default(PolicyId)),
                (type, body) =>
                {
                    if (type == XFRM_MSG_NEWPOLICY && Parse(body) is { } policy)
                        policies.Add(policy);
                });
        }
        catch (XdpException)
        {
            // The kernel has no IPsec, or does not tell.
        }
        return policies;
    }

    [System.Runtime.CompilerServices.InlineArray(64)]
    private struct PolicyId
    {
        private byte _first;
    }

    internal static IpSecPolicy? Parse(ReadOnlySpan<byte> body)
    {
        const byte XFRM_POLICY_IN = 0, XFRM_POLICY_OUT = 1, XFRM_POLICY_BLOCK = 1, Tcp = 6;
        if (body.Length < Length || body[Protocol] is not (0 or Tcp) || body[Way] > XFRM_POLICY_OUT)
            return null;
        bool blocks = body[Action] == XFRM_POLICY_BLOCK, encrypts = false;
        var attributes = new NetlinkAttributes(body[Length..]);
        while (attributes.MoveNext())
            encrypts |= attributes.Type == XFRMA_TMPL && attributes.Value.Length > 0;
        // A policy that allows, and asks for nothing, is an exception to others.
        if (!blocks && !encrypts)
            return null;
        bool isIn = body[Way] == XFRM_POLICY_IN;
        int port = BinaryPrimitives.ReadUInt16BigEndian(body[(isIn ? DestinationPort : SourcePort)..]);
        int mask = BinaryPrimitives.ReadUInt16BigEndian(body[(isIn ? DestinationMask : SourceMask)..]);
        return new IpSecPolicy(
            isIn ? SegmentDirection.In : SegmentDirection.Out, MemoryMarshal.Read<int>(body[Interface..]),
            (port, mask), blocks);
    }

    /// <summary>May it select segments of the port?</summary>
    internal bool IsFor(int port, int interfaceIndex) =>
        (Index == 0 || Index == interfaceIndex) && (port & Port.Mask) == (Port.Value & Port.Mask);

    public override string ToString() =>
        $"IPsec policy ({(Direction == SegmentDirection.In ? "in" : "out")}, {(Blocks ? "block" : "encrypt")})";
}
