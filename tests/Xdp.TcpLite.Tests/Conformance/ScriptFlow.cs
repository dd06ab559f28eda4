using System.Buffers.Binary;
using System.Globalization;

namespace Xdp.TcpLite.Tests.Conformance;

/// <summary>
/// One 4-tuple of a script. Turns the script's relative numbers into packets, and packets into the script's notation.
/// It has code of its own for this, so that an error in the stack's writer or parser does not cancel itself out.
/// </summary>
internal sealed class ScriptFlow(int number, FlowKey key, LinkPath path, uint peerIsn, uint? timestampBase)
{
    private const int LinkLength = 14;

    public int Number { get; } = number;

    /// <summary>Seen from the stack.</summary>
    public FlowKey Key { get; } = key;

    public TcpConnection? Connection { get; set; }

    /// <summary>The stack's ISN, once it has sent a SYN.</summary>
    public uint? Iss { get; private set; }

    /// <summary>The ISN of the incarnation before.</summary>
    public uint? PreviousIss { get; private set; }

    /// <summary>Everything that the connection has reported.</summary>
    public TcpEvents Events { get; set; }

    public long Written { get; set; }
    public long Read { get; set; }

    /// <summary>Taken from the connection and not yet asked for by a <c>read</c>.</summary>
    public Queue<byte> Taken { get; } = new();

    /// <summary>TSval of the stack's last segment, as it was on the wire.</summary>
    private uint _lastTsVal;

    /// <summary>Its timestamp at the script's start. Where it is not known, the first one it sends tells.</summary>
    private uint? _timestampBase = timestampBase;

    /// <summary>
    /// Where it sends in real time: its timestamps, by those that the script has for them. The peer echoes them.
    /// </summary>
    private readonly Dictionary<int, uint> _timestamps = [];

    /// <summary>The stack's last segment has the timestamp that the script calls this.</summary>
    public void NameTimestamp(int value)
    {
        if (_timestampBase is not null)
            _timestamps[value] = _lastTsVal;
    }

    private bool IsIPv4 => Key.Local.IsIPv4;

    /// <summary>What the byte at this relative sequence number is, in either direction.</summary>
    public static byte Pattern(long seq) => (byte)(seq * 31 ^ seq >> 8 ^ 0x5a);

    // ---- from the peer

    public byte[] Encode(ScriptSegment segment)
    {
        byte[] options = [.. segment.Options.SelectMany(option => EncodeOption(option, segment))];
        int padded = (options.Length + 3) / 4 * 4;
        int ipLength = IsIPv4 ? 20 : 40;
        int tcpLength = 20 + padded + segment.Length;
        byte[] packet = new byte[LinkLength + ipLength + tcpLength];
        PutMac(packet, path.LocalMac);
        PutMac(packet.AsSpan(6), path.RemoteMac);
        Span<byte> ip = packet.AsSpan(LinkLength);
        Span<byte> pseudo = stackalloc byte[40];
        if (IsIPv4)
        {
            Put16(packet.AsSpan(12), 0x0800);
            ip[0] = 0x45;
            ip[1] = segment.Ecn ?? 0;
            Put16(ip[2..], 20 + tcpLength);
            ip[6] = 0x40;
            ip[8] = 64;
            ip[9] = 6;
            BinaryPrimitives.WriteUInt32BigEndian(ip[12..], Key.Remote.IPv4);
            BinaryPrimitives.WriteUInt32BigEndian(ip[16..], Key.Local.IPv4);
            Put16(ip[10..], SegmentBuilder.NaiveChecksum(ip[..20]));
            ip[12..20].CopyTo(pseudo);
        }
        else
        {
            Put16(packet.AsSpan(12), 0x86dd);
            ip[0] = 0x60;
            ip[1] = (byte)((segment.Ecn ?? 0) << 4);
            Put16(ip[4..], tcpLength);
            ip[6] = 6;
            ip[7] = 64;
            Key.Remote.WriteIPv6(ip[8..]);
            Key.Local.WriteIPv6(ip[24..]);
            ip[8..40].CopyTo(pseudo);
        }
        Span<byte> tcp = ip[ipLength..];
        Put16(tcp, Key.RemotePort);
        Put16(tcp[2..], Key.LocalPort);
        BinaryPrimitives.WriteUInt32BigEndian(tcp[4..], unchecked(peerIsn + (uint)segment.Seq));
        if (segment.Ack is { } ack)
            BinaryPrimitives.WriteUInt32BigEndian(tcp[8..], unchecked((Iss ?? 0) + (uint)ack));
        tcp[12] = (byte)((20 + padded) << 2);
        tcp[13] = (byte)segment.Flags;
        Put16(tcp[14..], segment.Window ?? ushort.MaxValue);
        options.CopyTo(tcp[20..]);
        long first = segment.Seq + ((segment.Flags & TcpFlags.Syn) != 0 ? 1 : 0);
        for (int i = 0; i < segment.Length; i++)
            tcp[20 + padded + i] = Pattern(first + i);
        byte[] summed =
            [.. pseudo[..(IsIPv4 ? 8 : 32)], 0, 0, (byte)(tcpLength >> 8), (byte)tcpLength, 0, 0, 0, 6, .. tcp];
        Put16(tcp[16..], SegmentBuilder.NaiveChecksum(summed));
        return packet;
    }

    /// <summary>
    /// A router's ICMP error about a segment of ours: what the verbs <c>too_big</c> and <c>icmp</c> of a script say.
    /// </summary>
    public byte[] EncodeError(IpAddr router, string verb, string argument)
    {
        string[] words = argument.Split(' ');
        long seq = long.Parse(words[1], CultureInfo.InvariantCulture);
        return verb == "too_big"
            ? EncodeTooBig(router, int.Parse(words[0], CultureInfo.InvariantCulture), seq)
            : EncodeIcmp(router, words[0], seq);
    }

    /// <summary>
    /// "Fragmentation needed" or "packet too big". It quotes the segment of ours that starts at
    /// <paramref name="seq"/>. Over IPv6 the MTU is 20 more, so that the MSS is the same.
    /// </summary>
    private byte[] EncodeTooBig(IpAddr router, int mtu, long seq) => IsIPv4
        ? EncodeIcmp(router, 3, 4, mtu, seq)
        : EncodeIcmp(router, 2, 0, mtu == 0 ? 0 : mtu + 20, seq);

    /// <summary>The same for any other reason.</summary>
    private byte[] EncodeIcmp(IpAddr router, string reason, long seq)
    {
        (int type, int code) = (reason, IsIPv4) switch
        {
            ("host_unreachable", true) => (3, 1),
            ("host_unreachable", false) => (1, 3),
            ("protocol_unreachable", true) => (3, 2),
            ("protocol_unreachable", false) => (4, 1),
            ("port_unreachable", true) => (3, 3),
            ("port_unreachable", false) => (1, 4),
            ("prohibited", true) => (3, 10),
            ("prohibited", false) => (1, 1),
            ("time_exceeded", true) => (11, 0),
            ("time_exceeded", false) => (3, 0),
            _ => throw new ScriptException($"no ICMP error '{reason}'"),
        };
        return EncodeIcmp(router, type, code, 0, seq);
    }

    private byte[] EncodeIcmp(IpAddr router, int type, int code, int mtu, long seq)
    {
        int ipLength = IsIPv4 ? 20 : 40;
        byte[] quote = new byte[ipLength + 8];
        PutIp(quote, Key.Local, Key.Remote, mtu + 1, protocol: 6);
        Put16(quote.AsSpan(ipLength), Key.LocalPort);
        Put16(quote.AsSpan(ipLength + 2), Key.RemotePort);
        BinaryPrimitives.WriteUInt32BigEndian(quote.AsSpan(ipLength + 4), unchecked((Iss ?? 0) + (uint)seq));
        byte[] packet = new byte[LinkLength + ipLength + 8 + quote.Length];
        PutMac(packet, path.LocalMac);
        PutMac(packet.AsSpan(6), path.RemoteMac);
        Put16(packet.AsSpan(12), IsIPv4 ? 0x0800 : 0x86dd);
        byte protocol = (byte)(IsIPv4 ? 1 : 58);
        PutIp(packet.AsSpan(LinkLength), router, Key.Local, packet.Length - LinkLength, protocol);
        Span<byte> icmp = packet.AsSpan(LinkLength + ipLength);
        icmp[0] = (byte)type;
        icmp[1] = (byte)code;
        Put16(icmp[6..], mtu);
        quote.CopyTo(icmp[8..]);
        byte[] pseudo = IsIPv4
            ? []
            : [.. packet.AsSpan(LinkLength + 8, 32), 0, 0, 0, (byte)icmp.Length, 0, 0, 0, protocol];
        Put16(icmp[2..], SegmentBuilder.NaiveChecksum([.. pseudo, .. icmp]));
        return packet;
    }

    private void PutIp(Span<byte> ip, IpAddr from, IpAddr to, int length, byte protocol)
    {
        if (IsIPv4)
        {
            ip[0] = 0x45;
            Put16(ip[2..], length);
            ip[6] = 0x40;
            ip[8] = 64;
            ip[9] = protocol;
            BinaryPrimitives.WriteUInt32BigEndian(ip[12..], from.IPv4);
            BinaryPrimitives.WriteUInt32BigEndian(ip[16..], to.IPv4);
            Put16(ip[10..], SegmentBuilder.NaiveChecksum(ip[..20]));
            return;
        }
        ip[0] = 0x60;
        Put16(ip[4..], length - 40);
        ip[6] = protocol;
        ip[7] = 64;
        from.WriteIPv6(ip[8..]);
        to.WriteIPv6(ip[24..]);
    }

    private byte[] EncodeOption(string option, ScriptSegment segment)
    {
        string[] words = option.Split(' ');
        switch (words[0])
        {
            case "nop":
                return [1];
            case "eol":
                return [0];
            case "mss":
                return [2, 4, .. Big16(Int(words[1]))];
            case "wscale":
                return [3, 3, (byte)Int(words[1])];
            case "sackOK":
                return [4, 2];
            case "sack":
                return [5, (byte)(2 + 8 * (words.Length - 1)), .. words[1..].SelectMany(block =>
                {
                    string[] edges = block.Split(':');
                    return Big32(unchecked((Iss ?? 0) + (uint)Int(edges[0])))
                        .Concat(Big32(unchecked((Iss ?? 0) + (uint)Int(edges[1]))));
                })];
            case "TS":
                // A first SYN has nothing to echo.
                bool echoes = (segment.Flags & (TcpFlags.Syn | TcpFlags.Ack)) != TcpFlags.Syn;
                uint echo = !echoes ? 0
                    : words[4] == "last" ? _lastTsVal
                    : _timestamps.TryGetValue(Int(words[4]), out uint sent) ? sent
                    : unchecked((_timestampBase ?? 0) + (uint)Int(words[4]));
                return [8, 10, .. Big32(unchecked((uint)Int(words[2]))), .. Big32(echo)];
            case "kind":
                return [(byte)Int(words[1]), (byte)Int(words[3]), .. new byte[Int(words[3]) - 2]];
            default:
                throw new FormatException($"no option: '{option}'");
        }
    }

    // ---- from the stack

    /// <summary>
    /// The segment in <paramref name="packet"/>. The packet must be whole, and right in every header field that the
    /// notation leaves out.
    /// </summary>
    /// <param name="packet">With its link header.</param>
    /// <param name="milliseconds">The script's time. The first timestamp counts as this, if none is known.</param>
    public ScriptSegment Decode(byte[] packet, int milliseconds = 0)
    {
        ReadOnlySpan<byte> ip = packet.AsSpan(LinkLength);
        int ipLength = IsIPv4 ? 20 : 40;
        ReadOnlySpan<byte> tcp = ip[ipLength..];
        int headerLength = (tcp[12] >> 4) * 4;
        ScriptCheck.That(
            IsIPv4 ? Get16(ip[2..]) == ip.Length : Get16(ip[4..]) == ip.Length - 40, "the IP length is wrong");
        ScriptCheck.That(!IsIPv4 || ip[6] == 0x40, "DF is not set, or the packet is a fragment");
        ScriptCheck.That((IsIPv4 ? ip[8] : ip[7]) == 64, "TTL is not 64");
        ScriptCheck.That(headerLength >= 20 && headerLength <= tcp.Length, "the data offset is wrong");
        var flags = (TcpFlags)tcp[13];
        uint seq = BinaryPrimitives.ReadUInt32BigEndian(tcp[4..]);
        if ((flags & TcpFlags.Syn) != 0 && Iss != seq)
        {
            PreviousIss = Iss;
            Iss = seq;
        }
        uint ack = BinaryPrimitives.ReadUInt32BigEndian(tcp[8..]);
        var segment = new ScriptSegment
        {
            Flags = flags,
            Seq = unchecked((int)(seq - (Iss ?? 0))),
            Length = tcp.Length - headerLength,
            Ack = (flags & TcpFlags.Ack) != 0 ? unchecked((int)(ack - peerIsn)) : null,
            Window = Get16(tcp[14..]),
            Ecn = (byte)(IsIPv4 ? ip[1] & 3 : ip[1] >> 4 & 3),
            Options = DecodeOptions(tcp[20..headerLength], milliseconds),
        };
        ScriptCheck.That((flags & TcpFlags.Ack) != 0 || ack == 0, "an ACK number without the flag");
        for (int i = 0; i < segment.Length; i++)
            ScriptCheck.That(
                tcp[headerLength + i] == Pattern(segment.Seq + i),
                $"byte {i} of the payload of {segment} is not what was written");
        return segment;
    }

    private List<string> DecodeOptions(ReadOnlySpan<byte> bytes, int milliseconds)
    {
        var options = new List<string>();
        while (!bytes.IsEmpty)
        {
            int length = bytes[0] <= 1 ? 1 : bytes[1];
            if (bytes[0] == 8)
            {
                _lastTsVal = Get32(bytes[2..]);
                _timestampBase ??= unchecked(_lastTsVal - (uint)milliseconds);
            }
            ReadOnlySpan<byte> value = bytes[Math.Min(2, length)..length];
            options.Add(bytes[0] switch
            {
                0 => "eol",
                1 => "nop",
                2 => string.Create(CultureInfo.InvariantCulture, $"mss {Get16(value)}"),
                3 => string.Create(CultureInfo.InvariantCulture, $"wscale {value[0]}"),
                4 => "sackOK",
                5 => $"sack {DecodeBlocks(value)}",
                8 => string.Create(
                    CultureInfo.InvariantCulture,
                    $"TS val {unchecked((int)(Get32(value) - _timestampBase!.Value))} ecr {Get32(value[4..])}"),
                _ => string.Create(CultureInfo.InvariantCulture, $"kind {bytes[0]} len {length}"),
            });
            bytes = bytes[length..];
        }
        return options;
    }

    private string DecodeBlocks(ReadOnlySpan<byte> value)
    {
        var blocks = new List<string>();
        for (; value.Length >= 8; value = value[8..])
            blocks.Add(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"{unchecked((int)(Get32(value) - peerIsn))}:{unchecked((int)(Get32(value[4..]) - peerIsn))}"));
        return string.Join(' ', blocks);
    }

    // ---- bytes

    private static int Int(string text) => (int)long.Parse(text, CultureInfo.InvariantCulture);
    private static byte[] Big16(int value) => [(byte)(value >> 8), (byte)value];
    private static byte[] Big32(uint value) =>
        [(byte)(value >> 24), (byte)(value >> 16), (byte)(value >> 8), (byte)value];
    private static int Get16(ReadOnlySpan<byte> source) => source[0] << 8 | source[1];
    private static uint Get32(ReadOnlySpan<byte> source) => BinaryPrimitives.ReadUInt32BigEndian(source);
    private static void Put16(Span<byte> destination, int value) => SegmentBuilder.Put(destination, (ushort)value);

    private static void PutMac(Span<byte> destination, ulong mac)
    {
        for (int i = 0; i < 6; i++)
            destination[i] = (byte)(mac >> (40 - 8 * i));
    }
}

/// <summary>What a script or its interpreter finds wrong; the interpreter adds where.</summary>
internal sealed class ScriptException(string message) : Exception(message);

internal static class ScriptCheck
{
    public static void That(bool holds, string otherwise)
    {
        if (!holds)
            throw new ScriptException(otherwise);
    }
}
