namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>The interface's MTU changes while connections are open.</summary>
public class ChangedMtuTests
{
    private const int Headers = 40, Before = 1500, After = 1000;

    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(2);

    private readonly Rig _rig = new(new TcpStackOptions { Mtu = Before });

    [Theory]
    [InlineData(null, After - Headers)]
    [InlineData(9000, 9000 - Headers)]
    public void NewConnection_IsToldOfTheNewMtu(int? receiveMtu, int mss)
    {
        _rig.Stack.ChangeMtu(After, receiveMtu);
        var peer = new Peer(_rig);
        peer.Send(peer.Syn());
        Assert.Equal(mss, Assert.Single(peer.Take()).Packet.Mss);
    }

    [Fact]
    public void OpenConnection_SendsWhatFits_AndLargerOnesAgainOnceItMay()
    {
        Peer peer = Connected();
        _rig.Stack.ChangeMtu(After, null);
        Assert.Equal(After - Headers, FirstSegment(peer));
        _rig.Stack.ChangeMtu(Before, null);
        Assert.Equal(Before - Headers, FirstSegment(peer));
        // It was opened with less, and so is what it shares with its peer.
        _rig.Stack.ChangeMtu(1770, null);
        Assert.Equal(Before - Headers, FirstSegment(peer));
    }

    [Fact]
    public void WhatIsInFlight_IsSentAgainInPiecesThatFit()
    {
        Peer peer = Connected();
        peer.Write(Before - Headers);
        Seen large = Assert.Single(peer.Take());
        Assert.Equal(Before - Headers, large.Payload.Length);
        _rig.Stack.ChangeMtu(After, null);
        _rig.Advance(TimeSpan.FromSeconds(30));
        List<Seen> again = peer.Take();
        Assert.True(_rig.Counters.RtoFires > 0);
        Assert.Contains(again, segment => segment.Seq == large.Seq);
        Assert.All(again, segment => Assert.InRange(segment.Payload.Length, 1, After - Headers));
    }

    [Fact]
    public void ListenerWithOptionsOfItsOwn_FollowsToo()
    {
        const ushort Port = 81;
        _rig.Stack.Listen(default, Port, null, options: _rig.Stack.Options with { UserTimeout = s_patience });
        _rig.Stack.ChangeMtu(1700, null);
        var template = new Peer(_rig);
        var peer = new Peer(_rig) { Flow = template.Flow with { LocalPort = Port }, Mss = 1700 };
        peer.Connect();
        Assert.Equal(s_patience, peer.Connection!.UserTimeout);
        Assert.Equal(1700 - Headers, FirstSegment(peer));
    }

    private Peer Connected()
    {
        var peer = new Peer(_rig) { Mss = 1760 };
        peer.Connect();
        return peer;
    }

    // Of more than one segment that is written; all of it is acknowledged.
    private static int FirstSegment(Peer peer)
    {
        peer.Write(3000);
        List<Seen> sent = peer.Take();
        peer.AckUpTo(sent[0].Seq + 3000);
        Assert.Equal(3000, sent.Sum(segment => segment.Payload.Length));
        return sent[0].Payload.Length;
    }
}
