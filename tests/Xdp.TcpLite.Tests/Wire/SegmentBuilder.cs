namespace Xdp.TcpLite.Tests;

/// <summary>Frames as a peer would send them: written with the flow turned round.</summary>
internal sealed record SegmentBuilder
{
    public static readonly IpAddr ServerV4 = IpAddr.FromIPv4(0x0a000001);
    public static readonly IpAddr ClientV4 = IpAddr.FromIPv4(0x0a000002);
    public static readonly IpAddr ServerV6 = new(0xfd00_0000_0000_0000, 1);
    public static readonly IpAddr ClientV6 = new(0xfd00_0000_0000_0000, 2);

    public static readonly FlowKey FlowV4 = new(ServerV4, ClientV4, 8080, 40000);
    public static readonly FlowKey FlowV6 = new(ServerV6, ClientV6, 8080, 40000);

    public static readonly LinkPath Path = new(0x02_00_00_00_00_01, 0x02_00_00_00_00_02);

    /// <summary>Seen from the receiver.</summary>
    public FlowKey Flow { get; init; } = FlowV4;

    /// <summary>Seen from the receiver.</summary>
    public LinkPath Link { get; init; } = Path;
    public SegmentFields Fields { get; init; } = new()
    {
        Seq = new SeqNumber(1000),
        Ack = new SeqNumber(2000),
        Flags = TcpFlags.Ack,
        Window = 512,
    };
    public byte[] Payload { get; init; } = [];

    /// <summary>Bytes behind the IP packet.</summary>
    public int Padding { get; init; }

    public int IpStart => Link.HeaderLength;

    public int TcpStart => IpStart + (Flow.Local.IsIPv4 ? 20 : 40);

    public byte[] Build()
    {
        var buffer = new byte[256 + Payload.Length + Padding];
        Payload.CopyTo(buffer, 256);
        buffer.AsSpan(256 + Payload.Length).Fill(0xEE);
        LinkPath path = Link with { LocalMac = Link.RemoteMac, RemoteMac = Link.LocalMac };
        var flow = new FlowKey(Flow.Remote, Flow.Local, Flow.RemotePort, Flow.LocalPort);
        int start = SegmentWriter.Write(buffer, 256, Payload.Length, path, flow, Fields);
        return buffer[start..];
    }

    /// <summary>Makes both checksums right again after a change.</summary>
    public static void FixChecksums(byte[] frame, int ipStart, int tcpStart, int tcpLength)
    {
        Span<byte> ip = frame.AsSpan(ipStart);
        bool isIPv4 = ip[0] >> 4 == 4;
        if (isIPv4)
        {
            ip[10] = ip[11] = 0;
            Put(ip[10..], NaiveChecksum(ip[..(tcpStart - ipStart)]));
        }
        Span<byte> tcp = frame.AsSpan(tcpStart, tcpLength);
        tcp[16] = tcp[17] = 0;
        byte[] pseudo =
            [.. isIPv4 ? ip[12..20] : ip[8..40], (byte)(tcpLength >> 24), (byte)(tcpLength >> 16),
                (byte)(tcpLength >> 8), (byte)tcpLength, 0, 0, 0, 6];
        Put(tcp[16..], NaiveChecksum([.. pseudo, .. tcp]));
    }

    public static ushort NaiveChecksum(ReadOnlySpan<byte> data)
    {
        uint sum = 0;
        for (int i = 0; i < data.Length; i++)
        {
            sum += i % 2 == 0 ? (uint)data[i] << 8 : data[i];
            if (sum > 0xffff)
                sum = (sum & 0xffff) + 1;
        }
        return (ushort)~sum;
    }

    public static void Put(Span<byte> destination, ushort value)
    {
        destination[0] = (byte)(value >> 8);
        destination[1] = (byte)value;
    }
}
