using System.Buffers.Binary;

namespace Xdp.TcpLite.Tests;

/// <summary>
/// Frames captured from a Linux 6.18 kernel talking to itself, with partial checksums: what they mean, and that our
/// writer makes the same bytes.
/// </summary>
public class KernelPacketTests
{
    public static TheoryData<string, string> Frames => new()
    {
        {
            "v4 SYN",
            "00000000000000000000000008004500003c80dc40004006a5dd0a0000020a0000019c401f9000b0699800000000a002"
                + "ffd7143100000204ffd70402080a5dc42bc1000000000103030a"
        },
        {
            "v4 SYN-ACK",
            "00000000000000000000000008004500003c00004000400626ba0a0000010a0000021f909c400182e70700b06999a012"
                + "ffcb143100000204ffd70402080a159cbef65dc42bc10103030a"
        },
        {
            "v4 ACK",
            "00000000000000000000000008004500003480dd40004006a5e40a0000020a0000019c401f9000b069990182e7088010"
                + "0040142900000101080a5dc42bc1159cbef6"
        },
        {
            "v4 data",
            "00000000000000000000000008004500003980de40004006a5de0a0000020a0000019c401f9000b069990182e7088018"
                + "0040142e00000101080a5dc42bc1159cbef668656c6c6f"
        },
        {
            "v4 FIN",
            "00000000000000000000000008004500003480df40004006a5e20a0000020a0000019c401f9000b0699e0182e7088011"
                + "0040142900000101080a5dc42bc1159cbef6"
        },
        {
            "v6 SYN",
            "00000000000000000000000086dd6009478f00280640fd000000000000000000000000000002fd000000000000000000"
                + "0000000000019c401f901860d68d00000000a002ffc4fa3200000204ffc40402080a2dc8c193000000000103030a"
        },
        {
            "v6 SYN-ACK",
            "00000000000000000000000086dd6004258300280640fd000000000000000000000000000001fd000000000000000000"
                + "0000000000021f909c40cac057701860d68ea012ffb8fa3200000204ffc40402080a1fa4d0db2dc8c1930103030a"
        },
        {
            "v6 data",
            "00000000000000000000000086dd6009478f00250640fd000000000000000000000000000002fd000000000000000000"
                + "0000000000019c401f901860d68ecac0577180180040fa2f00000101080a2dc8c1941fa4d0db68656c6c6f"
        },
    };

    [Theory]
    [MemberData(nameof(Frames))]
    public void Frame_ParsedAndWrittenAgain_IsTheSame(string name, string hex)
    {
        byte[] frame = Convert.FromHexString(hex);
        Assert.Equal(DropReason.BadTcpChecksum, PacketParser.Parse(frame, acceptPartialChecksum: false, out _));
        Assert.Equal(DropReason.None, PacketParser.Parse(frame, acceptPartialChecksum: true, out Packet packet));
        Assert.Equal(name[..2] == "v4", packet.Flow.Local.IsIPv4);
        Assert.Equal(name.Contains("SYN", StringComparison.Ordinal), packet.IsSyn);
        Assert.Equal(name.Contains("FIN", StringComparison.Ordinal), packet.IsFin);
        Assert.Equal(name != "v4 SYN" && name != "v6 SYN", packet.IsAck);
        ReadOnlySpan<byte> payload = name.Contains("data", StringComparison.Ordinal) ? "hello"u8 : [];
        Assert.Equal(payload, frame.AsSpan(packet.PayloadStart, packet.PayloadLength));
        Assert.True(packet.HasTimestamps);
        Assert.Equal(packet.IsSyn, packet.SackPermitted);
        if (packet.IsSyn)
        {
            Assert.Equal(packet.Flow.Local.IsIPv4 ? 65495 : 65476, packet.Mss);
            Assert.Equal(10, packet.WindowScale);
        }

        byte[] written = Rewrite(frame, packet);

        // The writer completes the checksum and leaves the flow label zero.
        int ip = packet.Path.HeaderLength;
        int tcp = ip + (packet.Flow.Local.IsIPv4 ? 20 : 40);
        SegmentBuilder.FixChecksums(frame, ip, tcp, frame.Length - tcp);
        if (!packet.Flow.Local.IsIPv4)
            BinaryPrimitives.WriteUInt32BigEndian(frame.AsSpan(ip), 0x60000000);
        Assert.Equal(Convert.ToHexString(frame), Convert.ToHexString(written));
    }

    private static byte[] Rewrite(byte[] frame, in Packet packet)
    {
        var fields = new SegmentFields
        {
            Seq = packet.Seq,
            Ack = packet.Ack,
            Flags = packet.Flags,
            Window = packet.Window,
            Ecn = packet.Ecn,
            IpId = BinaryPrimitives.ReadUInt16BigEndian(frame.AsSpan(18)),
            Mss = packet.Mss,
            HasWindowScale = packet.HasWindowScale,
            WindowScale = packet.WindowScale,
            SackPermitted = packet.SackPermitted,
            HasTimestamps = packet.HasTimestamps,
            TsVal = packet.TsVal,
            TsEcr = packet.TsEcr,
        };
        return new SegmentBuilder
        {
            Flow = packet.Flow,
            Link = packet.Path,
            Fields = fields,
            Payload = frame[packet.PayloadStart..(packet.PayloadStart + packet.PayloadLength)],
        }.Build();
    }
}
