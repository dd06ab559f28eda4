using System.Runtime.InteropServices;
using System.Text;
using Xdp.TcpLite.Tests.Conformance;
using static Xdp.TcpLite.LinuxTests.Kernel.LinuxNative;

namespace Xdp.TcpLite.LinuxTests.Kernel;

/// <summary>A kernel socket that never blocks, and what a script's application does with it.</summary>
internal sealed class LinuxSocket : IDisposable
{
    private int _fd;
    private int _error;

    private LinuxSocket(int fd) => _fd = fd;

    internal static LinuxSocket Create(bool ipv6)
    {
        int family = ipv6 ? AF_INET6 : AF_INET;
        var made = new LinuxSocket(Check(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket"));
        made.Set(SOL_SOCKET, SO_REUSEADDR, 1);
        return made;
    }

    internal bool IsOpen => _fd >= 0;

    internal void Set(int level, int name, params int[] values)
    {
        byte[] bytes = MemoryMarshal.AsBytes(values.AsSpan()).ToArray();
        Check(setsockopt(_fd, level, name, bytes, bytes.Length), $"setsockopt {level} {name}");
    }

    internal void Set(int name, string value)
    {
        byte[] bytes = Encoding.ASCII.GetBytes(value);
        Check(setsockopt(_fd, IPPROTO_TCP, name, bytes, bytes.Length), $"setsockopt {name} {value}");
    }

    internal void Bind(byte[] address) => Check(bind(_fd, address, address.Length), "bind");

    internal void Listen(int backlog) => Check(listen(_fd, backlog), "listen");

    /// <summary>The next connection and its peer's port, or null.</summary>
    internal (LinuxSocket Socket, int Port)? TryAccept()
    {
        byte[] address = new byte[28];
        int length = address.Length;
        int fd = accept4(_fd, address, ref length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && Marshal.GetLastPInvokeError() == EAGAIN)
            return null;
        return (new LinuxSocket(Check(fd, "accept4")), address[2] << 8 | address[3]);
    }

    internal void Connect(byte[] address)
    {
        if (connect(_fd, address, address.Length) < 0 && Marshal.GetLastPInvokeError() != EINPROGRESS)
            Check(-1, "connect");
    }

    internal void Write(byte[] data)
    {
        nint sent = send(_fd, data, data.Length, MSG_DONTWAIT | MSG_NOSIGNAL);
        int error = sent < 0 ? Marshal.GetLastPInvokeError() : 0;
        ScriptCheck.That(sent == data.Length, error == 0
            ? $"the kernel took {sent} of {data.Length} bytes" : $"send: {Marshal.GetPInvokeErrorMessage(error)}");
    }

    internal byte[] Read(int count)
    {
        byte[] data = new byte[count];
        nint read = recv(_fd, data, count, MSG_DONTWAIT);
        ScriptCheck.That(read == count, $"there are only {Math.Max(read, 0)} bytes to read");
        return data;
    }

    /// <summary>How many bytes can be read.</summary>
    internal int Readable => IntOf(_fd, FIONREAD, "FIONREAD");

    /// <summary>Bytes that the peer has not acknowledged, sent or not.</summary>
    internal int Unacknowledged => IntOf(_fd, SIOCOUTQ, "SIOCOUTQ");

    internal void Shutdown()
    {
        if (shutdown(_fd, SHUT_WR) < 0)
            _ = Error;
    }

    internal void Abort()
    {
        Set(SOL_SOCKET, SO_LINGER, 1, 0);
        Dispose();
    }

    /// <summary>What the connection died of, an errno, or 0.</summary>
    internal int Error
    {
        get
        {
            if (_error == 0 && IsOpen)
            {
                byte[] value = new byte[4];
                int length = value.Length;
                Check(getsockopt(_fd, SOL_SOCKET, SO_ERROR, value, ref length), "SO_ERROR");
                _error = BitConverter.ToInt32(value);
            }
            return _error;
        }
    }

    internal TcpInfo Info()
    {
        byte[] value = new byte[256];
        int length = value.Length;
        Check(getsockopt(_fd, IPPROTO_TCP, TCP_INFO, value, ref length), "TCP_INFO");
        return new TcpInfo(value);
    }

    public void Dispose()
    {
        if (IsOpen)
            _ = close(_fd);
        _fd = -1;
    }

    /// <summary>Fields of struct tcp_info (include/uapi/linux/tcp.h) by their offsets.</summary>
    internal readonly struct TcpInfo(byte[] bytes)
    {
        internal byte Backoff => bytes[4];
        internal uint Rto => At(8);
        internal uint SndMss => At(16);
        internal uint Sacked => At(28);
        internal uint Lost => At(32);
        internal uint Rtt => At(68);
        internal uint SndSsthresh => At(76);
        internal uint SndCwnd => At(80);
        internal uint TotalRetrans => At(100);
        internal uint NotSentBytes => At(144);
        internal uint ReordSeen => At(220);
        internal uint SndWnd => At(228);

        private uint At(int offset) => BitConverter.ToUInt32(bytes, offset);
    }
}
