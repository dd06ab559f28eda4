using System.Buffers.Binary;

namespace Xdp.TcpLite.Tests.Fuzz;

/// <summary>
/// Changes frames, some blindly and some by field. Mostly the checksums are made right again, so that the change gets
/// past the parser.
/// </summary>
internal sealed class Mutator(Random random)
{
    private static readonly byte[] s_oddBytes = [0, 1, 2, 3, 4, 5, 8, 10, 0x7f, 0x80, 0xfe, 0xff];
    private readonly byte[] _previous = new byte[2048];
    private int _previousLength;

    /// <summary>
    /// Changes <paramref name="frame"/>, of which <paramref name="length"/> bytes are in use; returns the new length.
    /// </summary>
    internal int Mutate(Span<byte> frame, int length)
    {
        int changes = 1 + random.Next(3);
        for (int i = 0; i < changes && length > 0; i++)
            length = MutateOnce(frame, length);
        if (random.Next(8) != 0)
            FixChecksums(frame[..length], random.Next(4) != 0);
        Remember(frame[..length]);
        return length;
    }

    internal void Remember(ReadOnlySpan<byte> frame)
    {
        _previousLength = Math.Min(frame.Length, _previous.Length);
        frame[.._previousLength].CopyTo(_previous);
    }

    /// <summary>The tail of the frame before, somewhere in this one.</summary>
    private int SpliceTail(Span<byte> frame, int length)
    {
        int at = random.Next(length);
        int count = Math.Min(Math.Max(0, _previousLength - at), frame.Length - at);
        _previous.AsSpan(_previousLength - count, count).CopyTo(frame[at..]);
        return Math.Max(length, at + count);
    }

    private int MutateOnce(Span<byte> frame, int length)
    {
        int tcp = TcpStart(frame[..length]);
        switch (random.Next(tcp < 0 ? 4 : 13))
        {
            case 0:
                frame[random.Next(length)] ^= (byte)(1 << random.Next(8));
                return length;
            case 1:
                frame[random.Next(length)] = s_oddBytes[random.Next(s_oddBytes.Length)];
                return length;
            case 2:
                return random.Next(length + 1);
            case 3:
                return SpliceTail(frame, length);
            case 4:
                frame[tcp + 13] = (byte)random.Next(256);
                return length;
            case 5:
                frame[tcp + 12] = (byte)(random.Next(16) << 4);
                return length;
            case 6:
                MutateNumber(frame[(tcp + 4)..]);
                return length;
            case 7:
                MutateNumber(frame[(tcp + 8)..]);
                return length;
            case 8:
                BinaryPrimitives.WriteUInt16BigEndian(
                    frame[(tcp + 14)..], (ushort)(random.Next(2) == 0 ? random.Next(3) : random.Next(65536)));
                return length;
            case 9:
                BinaryPrimitives.WriteUInt16BigEndian(frame[(tcp + random.Next(2) * 2)..], (ushort)random.Next(65536));
                return length;
            case 10: // the IP header
                frame[14 + random.Next(Math.Min(40, length - 14))] = (byte)random.Next(256);
                return length;
            default:
                return MutateOptions(frame, length, tcp);
        }
    }

    private void MutateNumber(Span<byte> field)
    {
        uint value = BinaryPrimitives.ReadUInt32BigEndian(field);
        value += random.Next(6) switch
        {
            0 => 1,
            1 => uint.MaxValue,
            2 => (uint)random.Next(70000),
            3 => (uint)-random.Next(70000),
            4 => 0x8000_0000,
            _ => (uint)random.Next(),
        };
        BinaryPrimitives.WriteUInt32BigEndian(field, value);
    }

    /// <summary>New options of random kinds, lengths and contents, or a change in the old ones.</summary>
    private int MutateOptions(Span<byte> frame, int length, int tcp)
    {
        int header = (frame[tcp + 12] >> 4) * 4;
        int options = Math.Min(header - 20, length - tcp - 20);
        if (options > 0 && random.Next(2) == 0)
        {
            int at = tcp + 20 + random.Next(options);
            frame[at] = random.Next(2) == 0 ? s_oddBytes[random.Next(s_oddBytes.Length)] : (byte)random.Next(256);
            return length;
        }
        if (frame[12] != 8 || frame.Length < tcp + 60)
            return length;
        // IPv4: options in the place of the payload's first bytes.
        int words = random.Next(11);
        Span<byte> list = frame.Slice(tcp + 20, words * 4);
        random.NextBytes(list);
        for (int i = 0; i < list.Length;)
        {
            list[i] = (byte)random.Next(10);
            int size = random.Next(4) == 0 ? random.Next(40)
                : list[i] switch { 2 => 4, 3 => 3, 4 => 2, 5 => 10 + 8 * random.Next(3), 8 => 10, _ => 1 };
            if (size > 1 && i + 1 < list.Length)
                list[i + 1] = (byte)size;
            i += Math.Max(size, 1);
        }
        frame[tcp + 12] = (byte)((5 + words) << 4);
        length = Math.Max(length, tcp + 20 + words * 4);
        BinaryPrimitives.WriteUInt16BigEndian(frame[16..], (ushort)(length - 14));
        return length;
    }

    /// <summary>
    /// Where the TCP header of an untagged IPv4 or IPv6 frame is, if there is a whole one; -1 if not.
    /// </summary>
    private static int TcpStart(ReadOnlySpan<byte> frame)
    {
        if (frame.Length < 54)
            return -1;
        int ip = frame[12] == 0x86 ? 40 : (frame[14] & 0xf) * 4;
        return ip >= 20 && frame.Length >= 14 + ip + 20 ? 14 + ip : -1;
    }

    internal static void FixChecksums(Span<byte> frame, bool fixLength)
    {
        int tcp = TcpStart(frame);
        if (tcp < 0)
            return;
        bool isIPv4 = frame[12] != 0x86;
        Span<byte> ip = frame[14..tcp];
        if (isIPv4)
        {
            if (fixLength)
                BinaryPrimitives.WriteUInt16BigEndian(ip[2..], (ushort)(frame.Length - 14));
            ip[10] = ip[11] = 0;
            BinaryPrimitives.WriteUInt16BigEndian(ip[10..], (ushort)~Checksum.Fold(Checksum.Sum(ip)));
        }
        else if (fixLength)
        {
            BinaryPrimitives.WriteUInt16BigEndian(ip[4..], (ushort)(frame.Length - tcp));
        }
        int end = isIPv4
            ? 14 + BinaryPrimitives.ReadUInt16BigEndian(ip[2..])
            : tcp + BinaryPrimitives.ReadUInt16BigEndian(ip[4..]);
        if (end < tcp + 20 || end > frame.Length)
            return;
        Span<byte> segment = frame[tcp..end];
        segment[16] = segment[17] = 0;
        ulong sum = Checksum.Sum(isIPv4 ? ip[12..20] : ip[8..40], (ulong)segment.Length + Checksum.ProtocolTcp);
        BinaryPrimitives.WriteUInt16BigEndian(segment[16..], (ushort)~Checksum.Fold(Checksum.Sum(segment, sum)));
    }
}
