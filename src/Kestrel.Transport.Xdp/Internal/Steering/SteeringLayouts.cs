using System.Buffers.Binary;
using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using System.Runtime.CompilerServices;

namespace Kestrel.Transport.Xdp.Internal.Steering;

/// <summary>
/// What happens to an endpoint's segments: <c>enum steer_mode</c> of bpf/xdp_steer.h. The table is in xdp_steer.bpf.c.
/// </summary>
internal enum SteeringMode : uint
{
    /// <summary>Everything to the kernel.</summary>
    Off = 0,

    /// <summary>Flows the kernel has a socket for to the kernel, the rest to the XSK.</summary>
    Mixed = 1,

    /// <summary>Everything to the XSK.</summary>
    Steer = 2,

    /// <summary>As <see cref="Mixed"/>, but new connections to the kernel.</summary>
    Drain = 3,
}

/// <summary><c>struct steer_address</c>: IPv6, or IPv4-mapped.</summary>
[InlineArray(16)]
internal struct SteerAddress
{
    private byte _first;

    internal static SteerAddress From(IPAddress address)
    {
        SteerAddress bytes = default;
        address.MapToIPv6().TryWriteBytes(bytes, out _);
        return bytes;
    }
}

/// <summary><c>struct endpoint_key</c>, 24 bytes without padding.</summary>
internal struct EndpointKey
{
    internal SteerAddress Address;
    internal uint Vlan;
    internal ushort PortBigEndian;
    internal ushort Family;

    internal static EndpointKey From(IPAddress local, int port, int vlan)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual((ushort)port, port);
        ArgumentOutOfRangeException.ThrowIfNegative(vlan);
        bool ipv4 = local.AddressFamily == AddressFamily.InterNetwork || local.IsIPv4MappedToIPv6;
        return new EndpointKey
        {
            Address = SteerAddress.From(local),
            Vlan = (uint)vlan,
            PortBigEndian = BitConverter.IsLittleEndian
            ? BinaryPrimitives.ReverseEndianness((ushort)port)
            : (ushort)port,
            Family = (ushort)(ipv4 ? 4 : 6),
        };
    }
}

/// <summary><c>struct mac_key</c>, 8 bytes.</summary>
[InlineArray(8)]
internal struct MacKey
{
    private byte _first;

    internal static MacKey From(PhysicalAddress mac)
    {
        byte[] address = mac.GetAddressBytes();
        if (address.Length != 6)
            throw new ArgumentException($"'{mac}' is no Ethernet address.", nameof(mac));
        MacKey key = default;
        address.CopyTo((Span<byte>)key);
        return key;
    }
}

/// <summary><c>struct source_key</c>, 20 bytes: a key of the prefix tries.</summary>
internal struct SourceKey
{
    internal uint PrefixLength;
    internal SteerAddress Address;

    internal static SourceKey From(IPNetwork network)
    {
        const uint MappedPrefix = 96;
        bool ipv4 = network.BaseAddress.AddressFamily == AddressFamily.InterNetwork;
        return new SourceKey
        {
            PrefixLength = (uint)network.PrefixLength + (ipv4 ? MappedPrefix : 0),
            Address = SteerAddress.From(network.BaseAddress),
        };
    }
}

/// <summary>Peers of one endpoint.</summary>
/// <param name="Local">The endpoint's address.</param>
/// <param name="Port">The endpoint's port.</param>
/// <param name="Peers">Of the same family.</param>
internal readonly record struct EndpointPeers(IPAddress Local, ushort Port, IPNetwork Peers);

/// <summary><c>struct elsewhere_key</c>, 40 bytes.</summary>
internal struct ElsewhereKey
{
    private const uint BitsBeforePeer = 160;

    internal uint PrefixLength;
    internal SteerAddress Local;

    /// <summary>The port in network order, and two zeros behind it.</summary>
    internal uint PortAndZeros;
    internal SteerAddress Remote;

    internal static ElsewhereKey From(EndpointPeers peers)
    {
        var remote = SourceKey.From(peers.Peers);
        return new ElsewhereKey
        {
            PrefixLength = remote.PrefixLength + BitsBeforePeer,
            Local = SteerAddress.From(peers.Local),
            PortAndZeros = BitConverter.IsLittleEndian
                ? BinaryPrimitives.ReverseEndianness(peers.Port)
                : (uint)peers.Port << 16,
            Remote = remote.Address,
        };
    }
}

/// <summary><c>struct syn_limit</c>.</summary>
internal readonly record struct SynLimit(ulong IntervalNs, ulong BurstNs);

/// <summary>The flags of <c>struct steer_config</c>.</summary>
[Flags]
internal enum SteeringFlags : uint
{
    None = 0,
    AllowList = 1,
    DenyList = 2,
    Elsewhere = 4,
}
