using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Xdp.TcpLite;

/// <summary>
/// The Internet checksum (RFC 1071). A partial sum is any number that is congruent, modulo 65535, to the sum of the
/// data's big-endian 16-bit words. Partial sums may be added, as long as all but the last cover an even number of
/// bytes.
/// </summary>
internal static class Checksum
{
    internal const byte ProtocolTcp = 6;
    internal const byte ProtocolIcmp = 1;
    internal const byte ProtocolIcmpV6 = 58;

    /// <summary>
    /// Partial sum of <paramref name="data"/> and <paramref name="initial"/>. A last odd byte counts as the upper half
    /// of a word.
    /// </summary>
    public static ulong Sum(ReadOnlySpan<byte> data, ulong initial = 0)
    {
        // 2^16 ≡ 1 (mod 65535). So wider words may be added as well, and in the machine's byte order: swapping the sum
        // once, at the end, does the same as swapping each word.
        ulong sum = 0;
        if (Vector256.IsHardwareAccelerated && data.Length >= 64)
            sum = SumVector256(ref data);
        else if (Vector128.IsHardwareAccelerated && data.Length >= 32)
            sum = SumVector128(ref data);

        while (data.Length >= sizeof(ulong))
        {
            ulong word = MemoryMarshal.Read<ulong>(data);
            sum += (uint)word;
            sum += word >> 32;
            data = data[sizeof(ulong)..];
        }
        if (data.Length >= sizeof(uint))
        {
            sum += MemoryMarshal.Read<uint>(data);
            data = data[sizeof(uint)..];
        }
        if (data.Length >= sizeof(ushort))
        {
            sum += MemoryMarshal.Read<ushort>(data);
            data = data[sizeof(ushort)..];
        }
        if (data.Length > 0)
            sum += BitConverter.IsLittleEndian ? data[0] : (uint)data[0] << 8;

        ushort folded = Fold(sum);
        return initial + (BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(folded) : folded);
    }

    /// <summary>
    /// Folds a partial sum to 16 bits. The checksum is the complement of that. Data with its checksum in it folds to
    /// 0xffff.
    /// </summary>
    public static ushort Fold(ulong sum)
    {
        sum = (sum >> 32) + (uint)sum;
        sum = (sum >> 32) + (uint)sum;
        uint half = (uint)sum;
        half = (half >> 16) + (ushort)half;
        half = (half >> 16) + (ushort)half;
        return (ushort)half;
    }

    /// <summary>
    /// Partial sum of the pseudo-header of TCP or ICMPv6. The addresses say whether it is that of IPv4 or IPv6. They
    /// may be swapped: the sum is the same.
    /// </summary>
    public static ulong PseudoHeader(in IpAddr source, in IpAddr destination, byte protocol, int length)
    {
        ulong sum = protocol + (uint)length;
        return source.IsIPv4
            ? sum + source.IPv4 + destination.IPv4
            : sum + Halves(source.High) + Halves(source.Low) + Halves(destination.High) + Halves(destination.Low);
    }

    private static ulong Halves(ulong value) => (value >> 32) + (uint)value;

    private static ulong SumVector256(ref ReadOnlySpan<byte> data)
    {
        ReadOnlySpan<Vector256<ulong>> vectors = MemoryMarshal.Cast<byte, Vector256<ulong>>(data);
        Vector256<ulong> low = Vector256.Create((ulong)uint.MaxValue);
        Vector256<ulong> first = default;
        Vector256<ulong> second = default;
        int i = 0;
        for (; i + 1 < vectors.Length; i += 2)
        {
            Vector256<ulong> a = vectors[i];
            Vector256<ulong> b = vectors[i + 1];
            first += (a & low) + (a >>> 32);
            second += (b & low) + (b >>> 32);
        }
        if (i < vectors.Length)
            first += (vectors[i] & low) + (vectors[i] >>> 32);
        data = data[(vectors.Length * Vector256<byte>.Count)..];
        return Vector256.Sum(first + second);
    }

    private static ulong SumVector128(ref ReadOnlySpan<byte> data)
    {
        ReadOnlySpan<Vector128<ulong>> vectors = MemoryMarshal.Cast<byte, Vector128<ulong>>(data);
        Vector128<ulong> low = Vector128.Create((ulong)uint.MaxValue);
        Vector128<ulong> sum = default;
        foreach (Vector128<ulong> vector in vectors)
            sum += (vector & low) + (vector >>> 32);
        data = data[(vectors.Length * Vector128<byte>.Count)..];
        return Vector128.Sum(sum);
    }
}
