using System.Net;
using Kestrel.Transport.Xdp.Internal.Queues;
using Xdp.Sockets.Net;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Queues;

public class PeerClassesTests
{
    private static readonly PeerClasses s_classes = new(new RouteDistinctions(
        [
            Prefix("0.0.0.0", 0), Prefix("10.0.0.0", 8), Prefix("10.1.0.0", 16), Prefix("10.1.2.3", 32),
            Prefix("172.16.0.0", 12, severalHops: true), Prefix("fd00::", 64), Prefix("fd00::1", 128),
        ],
        DependsOnPorts: false));

    private static RoutePrefix Prefix(string address, int length, bool severalHops = false) =>
        new(IPAddress.Parse(address), length, severalHops);

    [Theory]
    [InlineData("8.8.8.8", "0.0.0.0", 96)]
    [InlineData("10.9.9.9", "10.0.0.0", 104)]
    [InlineData("10.1.255.255", "10.1.0.0", 112)]
    [InlineData("10.1.2.3", "10.1.2.3", 128)]
    [InlineData("127.0.0.2", "127.0.0.0", 104)]
    [InlineData("239.1.1.1", "224.0.0.0", 100)]
    [InlineData("fd00::7", "fd00::", 64)]
    [InlineData("fd00::1", "fd00::1", 128)]
    [InlineData("2001:db8::1", "::", 0)]
    public void Find_GivesTheLongestPrefix(string peer, string prefix, int length) => Assert.Equal(
        (IpAddr.From(IPAddress.Parse(prefix)), length), s_classes.Find(IpAddr.From(IPAddress.Parse(peer))));

    [Fact]
    public void Find_PeerWhoseNextHopIsChosenForItself_IsAlone() =>
        Assert.Null(s_classes.Find(IpAddr.From(IPAddress.Parse("172.17.0.1"))));

    [Fact]
    public void Within_HasTheClass_AndWhatIsCutOutOfIt()
    {
        (IpAddr Prefix, int Length)[] Within(string prefix, int length) =>
            [.. s_classes.Within(IpAddr.From(IPAddress.Parse(prefix)), length, most: 100)!];
        Assert.Equal(
            ["10.1.2.3 128", "10.1.0.0 112", "10.0.0.0 104"],
            Within("10.0.0.0", 104).Select(entry => $"{entry.Prefix} {entry.Length}"));
        Assert.Single(Within("fd00::1", 128));
        Assert.Contains((IpAddr.From(IPAddress.Any), 96), Within("0.0.0.0", 96));
        Assert.Null(s_classes.Within(IpAddr.From(IPAddress.Any), 96, most: 3));
    }

    [Fact]
    public void None_EachPeerIsAlone()
    {
        Assert.Null(PeerClasses.None.Find(IpAddr.From(IPAddress.Parse("8.8.8.8"))));
        Assert.True(PeerClasses.None.DependsOnPorts);
    }
}
