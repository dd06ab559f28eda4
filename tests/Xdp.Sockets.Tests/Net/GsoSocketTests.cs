using System.Buffers.Binary;
using Shared;
using Xdp.Sockets.Net;
using Xdp.Sockets.Tests.Support;

namespace Xdp.Sockets.Tests.Net;

public sealed class GsoSocketTests : IDisposable
{
    private const int FrameSize = 2048, Headers4 = 14 + 20 + 32, Headers6 = 14 + 40 + 32;
    private const byte Fin = 0x01, Psh = 0x08, Ack = 0x10, Urg = 0x20, Ece = 0x40, Cwr = 0x80;

    private readonly VethPair _pair = VethPair.Create();
    private readonly Umem _umem = Umem.Create(new UmemOptions { FrameCount = 128, FrameSize = FrameSize });
    private readonly List<XdpDescriptor> _packets = [];
    private readonly GsoSocket _gso;

    public GsoSocketTests() => _gso = _pair.Run(() => new GsoSocket(_umem, _pair.Near));

    /// <summary>The oracle are the segments themselves: the TX ring would have sent them as they are.</summary>
    [SkippableTheory]
    [InlineData(true, 2, Psh)]
    [InlineData(true, 30, Psh | Fin)]
    [InlineData(true, 30, 0)]
    [InlineData(false, 2, Psh)]
    [InlineData(false, 30, Psh | Fin)]
    public void Send_DividedByTheKernel_GivesTheSegments(bool isIPv4, int count, byte lastFlags)
    {
        Require.Tools("ethtool");
        _pair.Exec("ethtool -K near tso off gso off tx off");
        int full = isIPv4 ? 1448 : 1428;
        for (int i = 0; i < count; i++)
            Add(isIPv4, i, length: i == count - 1 ? 100 : full, flags: i == count - 1 ? (byte)(Ack | lastFlags) : Ack);
        using PacketSocket peer = _pair.OpenPeer((ushort)(isIPv4 ? 0x0800 : 0x86DD));

        Assert.Equal(count, CountRun());
        Assert.Equal(GsoStatus.Sent, Send());

        foreach (XdpDescriptor packet in _packets)
            Assert.Equal(Bytes(packet), peer.Receive());
        Assert.True(peer.IsEmpty);
    }

    [SkippableFact]
    public void Send_ToADeviceThatDivides_IsOnePacket()
    {
        for (int i = 0; i < 10; i++)
            Add(isIPv4: true, i, length: 300, Ack);
        using PacketSocket peer = _pair.OpenPeer(0x0800);

        Assert.Equal(GsoStatus.Sent, Send());

        byte[] one = peer.Receive()!;
        Assert.Equal(Headers4 + 3000, one.Length);
        Assert.Equal(20 + 32 + 3000, BinaryPrimitives.ReadUInt16BigEndian(one.AsSpan(16)));
        Assert.Equal(0, Fold(Sum(one.AsSpan(14, 20)), complement: true));
        Assert.True(peer.IsEmpty);
    }

    [SkippableFact]
    public void Send_LinkIsDown_IsRefusedForNow()
    {
        Add(isIPv4: true, 0, 1000, Ack);
        Add(isIPv4: true, 1, 1000, Ack);
        _pair.SetLink("near", "down");
        Assert.Equal(GsoStatus.Busy, Send());
        Assert.NotEqual(0, _gso.LastErrno);
    }

    [SkippableTheory]
    [InlineData("nothing", 4)]
    [InlineData("a port", 2)]
    [InlineData("an address", 2)]
    [InlineData("the MAC", 2)]
    [InlineData("the acknowledgement", 2)]
    [InlineData("the window", 2)]
    [InlineData("the timestamp", 2)]
    [InlineData("hops", 2)]
    [InlineData("ECN", 2)]
    [InlineData("CWR", 2)]
    [InlineData("ECE", 2)]
    [InlineData("URG", 2)]
    [InlineData("the urgent pointer", 2)]
    [InlineData("the data offset", 2)]
    [InlineData("the EtherType", 2)]
    [InlineData("the header's length", 2)]
    [InlineData("the sequence", 2)]
    [InlineData("more data", 2)]
    [InlineData("less data", 3)]
    [InlineData("FIN", 3)]
    [InlineData("PSH", 3)]
    public void CountRun_ThirdOfFourDiffers(string by, int expected)
    {
        foreach (bool isIPv4 in (bool[])[true, false])
        {
            _packets.Clear();
            for (int i = 0; i < 4; i++)
            {
                int more = i != 2 ? 0 : by == "more data" ? 1 : by == "less data" ? -1 : 0;
                Add(isIPv4, i, length: 1000 + more, Ack);
            }
            Span<byte> third = _umem.GetSpan(_packets[2].Address, (int)_packets[2].Length);
            int tcp = isIPv4 ? 34 : 54;
            int changed = by switch
            {
                "a port" => tcp + 3,
                "an address" => tcp - 1,
                "the MAC" => 5,
                "the acknowledgement" => tcp + 11,
                "the window" => tcp + 15,
                "the timestamp" => tcp + 27,
                "hops" => isIPv4 ? 22 : 21,
                "the urgent pointer" => tcp + 19,
                "the EtherType" => 12,
                "the sequence" => tcp + 7,
                _ => -1,
            };
            if (changed >= 0)
                third[changed] ^= 1;
            third[tcp + 13] |= by switch
            {
                "FIN" => Fin,
                "PSH" => Psh,
                "CWR" => Cwr,
                "ECE" => Ece,
                "URG" => Urg,
                _ => 0,
            };
            if (by == "ECN")
                third[15] ^= (byte)(isIPv4 ? 0x01 : 0x10);
            else if (by == "the data offset")
                third[tcp + 12] ^= 0x10;
            else if (by == "the header's length")
                third[14] ^= (byte)(isIPv4 ? 0x01 : 0x80);
            Assert.Equal(expected, CountRun());
        }
    }

    [SkippableFact]
    public void CountRun_WhatIsNoData_IsAlone()
    {
        Add(isIPv4: true, 0, length: 0, Ack);
        Add(isIPv4: true, 0, length: 1000, Ack);
        Assert.Equal(1, CountRun());
        _packets.Clear();
        Add(isIPv4: true, 0, length: 1000, Ack | Psh);
        Add(isIPv4: true, 1, length: 1000, Ack);
        Assert.Equal(1, CountRun());
    }

    /// <summary>An IP packet has 65,535 bytes at most.</summary>
    [SkippableFact]
    public void CountRun_EndsWhereAPacketWould()
    {
        for (int i = 0; i < 60; i++)
            Add(isIPv4: true, i, length: 1448, Ack);
        Assert.Equal(45, CountRun());
    }

    /// <summary>Its length would not fit the IP header.</summary>
    [SkippableFact]
    public void Send_MoreThanAPacketHolds_IsRefused()
    {
        for (int i = 0; i < 60; i++)
            Add(isIPv4: true, i, length: 1448, Ack);
        Assert.Equal(GsoStatus.Refused, Send());
    }

    /// <summary>A kernel that lets an XDP program have the other end no longer takes large packets for it.</summary>
    [SkippableFact]
    public void Veth_WhoseOtherEndHasAProgram_DoesNotSegment()
    {
        NetworkInterfaceInfo Near() => _pair.Run(() => NetworkInterfaceInfo.Get(_pair.Near))!;
        Require.Tools("ethtool");
        Assert.True(Near().MaySegmentTcp);
        Assert.Equal("noqueue", Near().QueueingDiscipline);
        _pair.Exec("ethtool -K near tso off");
        Assert.True(Near().MaySegmentTcp);
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64, FrameSize = FrameSize });
        using Xsk xsk = _pair.Open(umem, new XskOptions { InterfaceIndex = _pair.Far, QueueId = 0 });
        using RedirectProgram program = _pair.Run(() => new RedirectProgram(xsk));
        Assert.False(Near().MaySegmentTcp);
    }

    [SkippableFact]
    public void NoSuchInterface_IsAnError() =>
        Assert.Throws<XdpException>(() => _pair.Run(() => new GsoSocket(_umem, 12345)));

    public void Dispose()
    {
        _gso?.Dispose();
        _pair.Dispose();
    }

    private int CountRun() => _gso.CountRun([.. _packets]);

    private GsoStatus Send() => _gso.Send([.. _packets]);

    private byte[] Bytes(XdpDescriptor packet) => _umem.GetSpan(packet.Address, (int)packet.Length).ToArray();

    // The segment behind those before it, of the same length each.
    private void Add(bool isIPv4, int number, int length, byte flags)
    {
        int headers = isIPv4 ? Headers4 : Headers6;
        var packet = new XdpDescriptor
        {
            Address = (ulong)(_packets.Count * FrameSize + 256),
            Length = (uint)(headers + length),
        };
        int before = _packets.Sum(each => (int)each.Length - headers);
        Write(_umem.GetSpan(packet.Address, headers + length), isIPv4, number, before, flags);
        _packets.Add(packet);
    }

    private static void Write(Span<byte> packet, bool isIPv4, int number, int before, byte flags)
    {
        packet.Clear();
        packet[..6].Fill(0xFF);
        packet[6] = 2;
        BinaryPrimitives.WriteUInt16BigEndian(packet[12..], (ushort)(isIPv4 ? 0x0800 : 0x86DD));
        Span<byte> ip = packet[14..];
        Span<byte> tcp = ip[(isIPv4 ? 20 : 40)..];
        if (isIPv4)
        {
            ip[0] = 0x45;
            BinaryPrimitives.WriteUInt16BigEndian(ip[2..], (ushort)(20 + tcp.Length));
            BinaryPrimitives.WriteUInt16BigEndian(ip[4..], (ushort)(7000 + number));
            ip[6] = 0x40;
            ip[8] = 64;
            ip[9] = 6;
            ip[12] = 10;
            ip[16] = 10;
            ip[19] = 9;
            BinaryPrimitives.WriteUInt16BigEndian(ip[10..], Fold(Sum(ip[..20]), complement: true));
        }
        else
        {
            ip[0] = 0x60;
            BinaryPrimitives.WriteUInt16BigEndian(ip[4..], (ushort)tcp.Length);
            ip[6] = 6;
            ip[7] = 64;
            ip[8] = ip[24] = 0xFD;
            ip[39] = 9;
        }
        BinaryPrimitives.WriteUInt16BigEndian(tcp, 8080);
        BinaryPrimitives.WriteUInt16BigEndian(tcp[2..], 40_000);
        BinaryPrimitives.WriteUInt32BigEndian(tcp[4..], unchecked(0xFFFF_F000 + (uint)before));
        BinaryPrimitives.WriteUInt32BigEndian(tcp[8..], 77);
        tcp[12] = 8 << 4;
        tcp[13] = flags;
        BinaryPrimitives.WriteUInt16BigEndian(tcp[14..], 500);
        new byte[] { 1, 1, 8, 10, 0, 0, 0, 42, 0, 0, 0, 43 }.CopyTo(tcp[20..]);
        for (int i = 32; i < tcp.Length; i++)
            tcp[i] = (byte)(before + i * 7);
        ulong pseudo = Sum(isIPv4 ? ip[12..20] : ip[8..40]) + 6 + (ulong)tcp.Length;
        BinaryPrimitives.WriteUInt16BigEndian(tcp[16..], Fold(pseudo + Sum(tcp), complement: true));
    }

    private static ulong Sum(ReadOnlySpan<byte> bytes)
    {
        ulong sum = 0;
        for (int i = 0; i < bytes.Length; i++)
            sum += i % 2 == 0 ? (ulong)bytes[i] << 8 : bytes[i];
        return sum;
    }

    private static ushort Fold(ulong sum, bool complement)
    {
        while (sum > 0xFFFF)
            sum = (sum & 0xFFFF) + (sum >> 16);
        return (ushort)(complement ? ~sum : sum);
    }
}
