using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace Xdp.TcpLite;

/// <summary>
/// An IPv6 address, or an IPv4 address in its mapped form (<c>::ffff:a.b.c.d</c>), as two big-endian halves.
/// </summary>
public readonly record struct IpAddr(ulong High, ulong Low)
{
    private const ulong MappedPrefix = 0xffff_0000_0000;

    public bool IsIPv4 => High == 0 && Low >> 32 == MappedPrefix >> 32;

    /// <summary>The IPv4 address as a big-endian number; meaningful only when <see cref="IsIPv4"/>.</summary>
    public uint IPv4 => (uint)Low;

    public bool IsLinkLocal => High >> 54 == 0xfe80 >> 6;

    public static IpAddr FromIPv4(uint address) => new(0, MappedPrefix | address);

    public static IpAddr FromIPv6(ReadOnlySpan<byte> bytes) =>
        new(BinaryPrimitives.ReadUInt64BigEndian(bytes), BinaryPrimitives.ReadUInt64BigEndian(bytes[8..]));

    public static IpAddr From(IPAddress address)
    {
        ArgumentNullException.ThrowIfNull(address);
        Span<byte> bytes = stackalloc byte[16];
        address.TryWriteBytes(bytes, out _);
        return address.AddressFamily == AddressFamily.InterNetwork
            ? FromIPv4(BinaryPrimitives.ReadUInt32BigEndian(bytes))
            : FromIPv6(bytes);
    }

    public void WriteIPv6(Span<byte> destination)
    {
        BinaryPrimitives.WriteUInt64BigEndian(destination, High);
        BinaryPrimitives.WriteUInt64BigEndian(destination[8..], Low);
    }

    /// <param name="mapped">Give IPv4 in its IPv6-mapped form, as dual-mode sockets do.</param>
    public IPAddress ToIPAddress(bool mapped = false)
    {
        Span<byte> bytes = stackalloc byte[16];
        WriteIPv6(bytes);
        return IsIPv4 && !mapped ? new IPAddress(bytes[12..]) : new IPAddress(bytes);
    }

    public override string ToString() => ToIPAddress().ToString();
}

/// <summary>The 4-tuple of a connection, seen from this host.</summary>
[StructLayout(LayoutKind.Sequential, Pack = sizeof(uint))] // no padding behind the ports: each connection keeps one
public readonly record struct FlowKey(IpAddr Local, IpAddr Remote, ushort LocalPort, ushort RemotePort);
