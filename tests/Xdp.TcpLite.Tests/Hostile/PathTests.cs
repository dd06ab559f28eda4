namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>A peer that is silent may be reached another way: the host is told, and may say which.</summary>
public class PathTests
{
    private static readonly LinkPath s_other = Rig.Path with { RemoteMac = 0x02_00_00_00_00_07 };

    private readonly Rig _rig = new();
    private readonly Peer _peer;

    public PathTests()
    {
        _peer = new Peer(_rig);
        _peer.Connect();
        _peer.Connection!.TakeEvents();
    }

    private bool IsSuspect => (_peer.Connection!.TakeEvents() & TcpEvents.PathSuspect) != 0;

    [Fact]
    public void SecondTimeout_TellsTheHost_WhichRedirects_UntilThePeerIsHeardAgain()
    {
        _peer.Write(1000);
        Seen first = Assert.Single(_peer.Take());
        AdvanceToTimeout(1);
        Assert.False(IsSuspect);
        AdvanceToTimeout(2);
        Assert.True(IsSuspect);
        _peer.Take();

        _peer.Connection!.Route = new Route(s_other);
        AdvanceToTimeout(3);
        Seen again = Assert.Single(_peer.Take());
        Assert.Equal((first.Seq, s_other.RemoteMac), (again.Seq, again.Packet.Path.LocalMac));

        _peer.AckUpTo(again.Seq + 1000);
        Assert.Equal(Rig.Path, _peer.Connection.Route.Path);
    }

    private void AdvanceToTimeout(int number)
    {
        while (_rig.Counters.RtoFires < number)
            _rig.Milliseconds(1);
    }

    [Fact]
    public void FirstSendAfterLongSilence_TellsTheHost()
    {
        _peer.Write(10);
        _peer.AckUpTo(Assert.Single(_peer.Take()).Seq + 10);
        _rig.Advance(TimeSpan.FromSeconds(28));
        _peer.Write(10);
        _peer.AckUpTo(Assert.Single(_peer.Take()).Seq + 10);
        Assert.False(IsSuspect);
        _rig.Advance(TimeSpan.FromSeconds(32));
        _peer.Write(10);
        Assert.True(IsSuspect);
    }

    [Fact]
    public void AnswerAfterLongSilence_FollowsTheRequest()
    {
        _rig.Advance(TimeSpan.FromSeconds(32));
        _peer.Data(0, 100);
        _peer.Read();
        _peer.Write(10);
        Assert.False(IsSuspect);
    }
}
