using System.Buffers.Binary;
using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using Xdp.Sockets.Bpf;
using Xdp.Sockets.Net;
using Xdp.Sockets.Tests.Net;

namespace Xdp.Sockets.Tests.Bpf;

public class PacketInjectorTests
{
    public PacketInjectorTests() => TestNetwork.Require();

    [SkippableFact]
    public void Inject_TheKernelReceivesThePacket()
    {
        using var network = new TestNetwork();
        network.Ip("link add v0 type veth peer name v1");
        network.Ip("addr add 10.0.0.1/24 dev v0");
        network.Ip("link set v0 up");
        network.Ip("link set v1 up");
        network.Run(() =>
        {
            NetworkInterfaceInfo device = NetworkInterfaceInfo.Get("v0")!;
            using var receiver = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
            receiver.Bind(new IPEndPoint(IPAddress.Parse("10.0.0.1"), 5000));
            receiver.ReceiveTimeout = 5000;
            using var injector = new PacketInjector();
            injector.Inject(Datagram(device.Mac), device.Index, queue: 0);
            byte[] buffer = new byte[100];
            Assert.Equal("hello"u8, buffer.AsSpan(0, receiver.Receive(buffer)));
        });
    }

    [SkippableFact]
    public void Inject_NoSuchDevice_IsRefused()
    {
        using var network = new TestNetwork();
        network.Run(() =>
        {
            using var injector = new PacketInjector();
            Assert.Throws<XdpException>(() => injector.Inject(Datagram(PhysicalAddress.Parse("020000000001")), 99, 0));
        });
    }

    // From 10.0.0.2 to 10.0.0.1, port 5000.
    private static byte[] Datagram(PhysicalAddress mac)
    {
        byte[] packet = new byte[14 + 20 + 8 + 5];
        mac.GetAddressBytes().CopyTo(packet, 0);
        packet[6] = 2;
        packet[12] = 8;
        Span<byte> ip = packet.AsSpan(14);
        (ip[0], ip[3], ip[8], ip[9]) = (0x45, 33, 64, 17);
        (ip[12], ip[15], ip[16], ip[19]) = (10, 2, 10, 1);
        uint sum = 0;
        for (int i = 0; i < 20; i += 2)
            sum += BinaryPrimitives.ReadUInt16BigEndian(ip[i..]);
        BinaryPrimitives.WriteUInt16BigEndian(ip[10..], (ushort)~((sum & 0xffff) + (sum >> 16)));
        BinaryPrimitives.WriteUInt16BigEndian(ip[20..], 4000);
        BinaryPrimitives.WriteUInt16BigEndian(ip[22..], 5000);
        BinaryPrimitives.WriteUInt16BigEndian(ip[24..], 13);
        "hello"u8.CopyTo(ip[28..]);
        return packet;
    }
}
