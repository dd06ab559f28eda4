using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Options;
using WrappedOptions = Microsoft.Extensions.Options.Options;

namespace Kestrel.Transport.Xdp.Tests.Listeners;

public class CanBindTests
{
    public static TheoryData<EndPoint, bool> EndPoints => new()
    {
        { new IPEndPoint(IPAddress.Any, 80), true },
        { new IPEndPoint(IPAddress.IPv6Any, 80), true },
        { new IPEndPoint(IPAddress.Parse("10.1.2.3"), 0), true },
        { new IPEndPoint(IPAddress.Parse("2001:db8::1"), 80), true },
        { new IPEndPoint(IPAddress.Parse("fe80::1%2"), 80), true },
        { new IPEndPoint(IPAddress.Parse("::ffff:10.1.2.3"), 80), true },
        { new IPEndPoint(IPAddress.Loopback, 80), false },
        { new IPEndPoint(IPAddress.Parse("127.9.9.9"), 80), false },
        { new IPEndPoint(IPAddress.IPv6Loopback, 80), false },
        { new IPEndPoint(IPAddress.Parse("::ffff:127.0.0.1"), 80), false },
        { new UnixDomainSocketEndPoint("/tmp/x"), false },
        { new FileHandleEndPoint(3, FileHandleType.Tcp), false },
        { new DnsEndPoint("example.org", 80), false },
    };

    [Theory]
    [MemberData(nameof(EndPoints))]
    public void CanBind_OfEachKind(EndPoint endpoint, bool expected) =>
        Assert.Equal(expected, Factory().CanBind(endpoint));

    [Fact]
    public void CanBind_Filter_Decides()
    {
        XdpTransportFactory factory = Factory(o => o.EndpointFilter = e => e.Port == 80);
        Assert.True(factory.CanBind(new IPEndPoint(IPAddress.Any, 80)));
        Assert.False(factory.CanBind(new IPEndPoint(IPAddress.Any, 81)));
        Assert.False(factory.CanBind(new IPEndPoint(IPAddress.Loopback, 80)));
    }

    [Fact]
    public void CanBind_SubclassOfIPEndPoint_IsNotOurs() => Assert.False(Factory().CanBind(new OddEndPoint()));

    private static XdpTransportFactory Factory(Action<XdpTransportOptions>? configure = null)
    {
        var options = new XdpTransportOptions();
        configure?.Invoke(options);
        return new XdpTransportFactory(WrappedOptions.Create(options), NullLoggerFactory.Instance);
    }

    // As HTTP/3's endpoints and others' may be: with a meaning of their own.
    private sealed class OddEndPoint() : IPEndPoint(IPAddress.Any, 80)
    {
        public override AddressFamily AddressFamily => throw new NotSupportedException();
    }
}
