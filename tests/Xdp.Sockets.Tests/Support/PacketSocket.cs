using System.Buffers.Binary;

namespace Xdp.Sockets.Tests.Support;

/// <summary>
/// An AF_PACKET socket for frames of <see cref="EtherType"/>, or another type, on one interface: the kernel's view of
/// the wire.
/// </summary>
internal sealed class PacketSocket : IDisposable
{
    /// <summary>Local experimental: nothing else sends it.</summary>
    internal const ushort EtherType = 0x88B5;

    private readonly int _fd;
    private readonly byte[] _buffer = new byte[4096];

    internal PacketSocket(int interfaceIndex, ushort etherType = EtherType)
    {
        _fd = TestNative.Check(TestNative.socket(TestNative.AF_PACKET, TestNative.SOCK_RAW | TestNative.SOCK_CLOEXEC,
            BinaryPrimitives.ReverseEndianness(etherType)), "socket(AF_PACKET)");
        byte[] address = new byte[20];
        BinaryPrimitives.WriteUInt16LittleEndian(address, TestNative.AF_PACKET);
        BinaryPrimitives.WriteUInt16BigEndian(address.AsSpan(2), etherType);
        BinaryPrimitives.WriteInt32LittleEndian(address.AsSpan(4), interfaceIndex);
        TestNative.Check(TestNative.bind(_fd, address, address.Length), "bind(AF_PACKET)");
        TestNative.Check(
            TestNative.setsockopt(
                _fd, TestNative.SOL_SOCKET, TestNative.SO_RCVBUFFORCE, BitConverter.GetBytes(64 << 20), 4),
            "SO_RCVBUFFORCE");
        Timeout(TimeSpan.FromSeconds(5));
    }

    internal static byte[] Frame(int number, int length = 60)
    {
        byte[] frame = new byte[length];
        Write(frame, number);
        return frame;
    }

    /// <summary>Broadcast Ethernet header, a number, and bytes that depend on it.</summary>
    internal static void Write(Span<byte> frame, int number)
    {
        frame[..6].Fill(0xff);
        new byte[] { 2, 0, 0, 0, 0, 1 }.CopyTo(frame[6..]);
        BinaryPrimitives.WriteUInt16BigEndian(frame[12..], EtherType);
        BinaryPrimitives.WriteInt32LittleEndian(frame[14..], number);
        for (int i = 18; i < frame.Length; i++)
            frame[i] = (byte)(number + i);
    }

    /// <summary>The next frame, or null after five seconds.</summary>
    internal byte[]? Receive()
    {
        nint length = TestNative.recv(_fd, _buffer, _buffer.Length, 0);
        return length < 0 ? null : _buffer[..(int)length];
    }

    /// <summary>
    /// Whether nothing has arrived. In copy mode a packet is delivered by the time the system call that sends it
    /// returns.
    /// </summary>
    internal bool IsEmpty => TestNative.recv(_fd, _buffer, _buffer.Length, 0x40) < 0;

    internal void Send(byte[] frame) => TestNative.Check(TestNative.send(_fd, frame, frame.Length, 0), "send");

    public void Dispose() => TestNative.close(_fd);

    private void Timeout(TimeSpan timeout)
    {
        byte[] time = new byte[16];
        BinaryPrimitives.WriteInt64LittleEndian(time, (long)timeout.TotalSeconds);
        TestNative.Check(TestNative.setsockopt(_fd, TestNative.SOL_SOCKET, TestNative.SO_RCVTIMEO, time, time.Length),
            "SO_RCVTIMEO");
    }
}
