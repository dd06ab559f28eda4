using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text;
using static Xdp.TcpLite.LinuxTests.Kernel.LinuxNative;

namespace Xdp.TcpLite.LinuxTests.Kernel;

/// <summary>
/// A kernel to play scripts against: a network namespace that the calling thread moves into, and a TUN device in it.
/// What the kernel sends to the device's network is read here, and what is written here arrives there. A write returns
/// when the kernel has worked the packet through, so an immediate answer can be read at once.
/// </summary>
internal sealed class LinuxHost : IDisposable
{
    private const string Device = "tun0";
    private const int LinkLength = 14;

    private readonly bool _ipv6;
    private readonly int _tun;
    private readonly byte[] _buffer = new byte[65536];

    /// <summary>The calling thread belongs to the new namespace from here on.</summary>
    internal LinuxHost(bool ipv6, int mtu)
    {
        _ipv6 = ipv6;
        Check(unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)");
        _tun = Check(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), "open /dev/net/tun");
        Check(ioctl(_tun, TUNSETIFF, Request(BitConverter.GetBytes((short)(IFF_TUN | IFF_NO_PI)))), "TUNSETIFF");
        SetUp(mtu);
    }

    /// <summary>The address of the kernel (1), of the peer (2), and of a router (3).</summary>
    internal static IPAddress Address(bool ipv6, int host) =>
        IPAddress.Parse(ipv6 ? $"fd00::{host}" : $"10.0.0.{host}");

    private static byte[] Request(byte[] value)
    {
        byte[] request = new byte[40];
        Encoding.ASCII.GetBytes(Device, request);
        value.CopyTo(request, 16);
        return request;
    }

    private void SetUp(int mtu)
    {
        int control = Check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
        try
        {
            Check(ioctl(control, SIOCSIFMTU, Request(BitConverter.GetBytes(mtu))), "SIOCSIFMTU");
            Check(ioctl(control, SIOCSIFADDR, Request(SocketAddress(Address(false, 1), 0))), "SIOCSIFADDR");
            byte[] mask = SocketAddress(IPAddress.Parse("255.255.255.0"), 0);
            Check(ioctl(control, SIOCSIFNETMASK, Request(mask)), "SIOCSIFNETMASK");
            Check(ioctl(control, SIOCSIFFLAGS, Request(BitConverter.GetBytes(IFF_UP))), "SIOCSIFFLAGS");
            if (_ipv6)
                AddIPv6(control);
        }
        finally
        {
            _ = close(control);
        }
    }

    private static void AddIPv6(int control)
    {
        byte[] index = Request([]);
        Check(ioctl(control, SIOCGIFINDEX, index), "SIOCGIFINDEX");
        // struct in6_ifreq: address, prefix length, interface.
        byte[] request =
            [.. Address(true, 1).GetAddressBytes(), .. BitConverter.GetBytes(64), .. index.AsSpan(16, 4)];
        int control6 = Check(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
        try
        {
            Check(ioctl(control6, SIOCSIFADDR, request), "SIOCSIFADDR, IPv6");
        }
        finally
        {
            _ = close(control6);
        }
        // It is tentative at first, even where nobody is asked whether it is taken.
        while (IsTentative())
            Thread.Sleep(1);

        static bool IsTentative() => File.ReadLines("/proc/thread-self/net/if_inet6")
            .Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            .Any(words => words[0].StartsWith("fd00", StringComparison.Ordinal)
                && (int.Parse(words[4], NumberStyles.HexNumber, CultureInfo.InvariantCulture) & IFA_F_TENTATIVE) != 0);
    }

    /// <summary>A struct sockaddr_in or sockaddr_in6.</summary>
    internal static byte[] SocketAddress(IPAddress address, int port)
    {
        byte[] bytes = address.GetAddressBytes();
        byte[] result = new byte[bytes.Length == 4 ? 16 : 28];
        result[0] = (byte)(bytes.Length == 4 ? AF_INET : AF_INET6);
        result[2] = (byte)(port >> 8);
        result[3] = (byte)port;
        bytes.CopyTo(result, bytes.Length == 4 ? 4 : 8);
        return result;
    }

    /// <summary>From the calling thread's namespace, of /proc/sys/net/ipv4. TCP over IPv6 has its there, too.</summary>
    internal static string Sysctl(string name) => File.ReadAllText($"/proc/sys/net/ipv4/{name}").Trim();

    internal static void Sysctl(string name, string value) => File.WriteAllText($"/proc/sys/net/ipv4/{name}", value);

    /// <summary>Rows of /proc/net/tcp: local and remote port, state, and what is left of the timer's time.</summary>
    internal IEnumerable<(int Local, int Remote, int State, TimeSpan Timer)> Table()
    {
        foreach (string line in File.ReadLines($"/proc/thread-self/net/tcp{(_ipv6 ? "6" : "")}").Skip(1))
        {
            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            yield return (
                Port(words[1]),
                Port(words[2]),
                Hex(words[3]),
                TimeSpan.FromMilliseconds(10L * Hex(words[5].Split(':')[1])));
        }

        static int Port(string endpoint) => Hex(endpoint.Split(':')[1]);
        static int Hex(string text) => int.Parse(text, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }

    /// <param name="frame">With a link header, which a TUN device does not have.</param>
    internal void Send(byte[] frame) =>
        Check(write(_tun, frame[LinkLength..], frame.Length - LinkLength), "write to the TUN device");

    /// <summary>The kernel's next TCP segment with room for a link header; null when none comes in time.</summary>
    internal byte[]? TryReceive(TimeSpan patience)
    {
        long start = Stopwatch.GetTimestamp();
        while (true)
        {
            nint length = read(_tun, _buffer, _buffer.Length);
            if (length > 0)
            {
                int protocol = _buffer[0] >> 4 == 4 ? _buffer[9] : _buffer[6];
                if (protocol == IPPROTO_TCP && _buffer[0] >> 4 == (_ipv6 ? 6 : 4))
                    return [.. new byte[LinkLength], .. _buffer.AsSpan(0, (int)length)];
                continue;
            }
            TimeSpan left = patience - Stopwatch.GetElapsedTime(start);
            if (left <= TimeSpan.Zero)
                return null;
            byte[] poll = [.. BitConverter.GetBytes(_tun), .. BitConverter.GetBytes(POLLIN), 0, 0];
            _ = ppoll(poll, 1, [(long)left.TotalSeconds, left.Ticks % TimeSpan.TicksPerSecond * 100], 0);
        }
    }

    public void Dispose() => _ = close(_tun);
}
