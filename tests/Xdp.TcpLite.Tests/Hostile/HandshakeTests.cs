namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>What comes to listeners, to half-open records, and to what is left of connections.</summary>
public class HandshakeTests
{
    private readonly Rig _rig = new();

    [Fact]
    public void HalfOpen_SegmentsOutOfWindow_AreAnsweredAtALimitedRate()
    {
        var peer = new Peer(_rig);
        peer.Send(peer.Syn());
        Seen synAck = Assert.Single(peer.Take());
        peer.Ack = synAck.Seq + 1;
        for (int i = 0; i < 100; i++)
            peer.Send(peer.Fields(TcpFlags.Ack) with { Seq = peer.Iss - 5000 });
        Assert.Single(peer.Take());
        _rig.Milliseconds(600);
        peer.Send(peer.Fields(TcpFlags.Ack) with { Seq = peer.Iss - 5000 });
        Assert.Single(peer.Take());
    }

    [Theory]
    [InlineData(TcpFlags.Ack)]
    [InlineData(TcpFlags.Syn | TcpFlags.Ack)]
    public void TimeWait_SegmentsWithoutData_AreAnsweredAtALimitedRate(TcpFlags flags)
    {
        var peer = new Peer(_rig);
        TcpConnection connection = peer.Connect();
        connection.Close();
        _rig.Emit();
        peer.Ack = peer.Take()[^1].Seq + 1;
        peer.Send(TcpFlags.Ack | TcpFlags.Fin);
        Assert.Single(peer.Take());
        for (int i = 0; i < 100; i++)
            peer.Send(peer.Fields(flags) with { Seq = peer.Nxt - 5000 });
        Assert.Single(peer.Take());
        peer.Send(TcpFlags.Ack | TcpFlags.Fin); // the last ACK was lost: always answered
        peer.Send(TcpFlags.Ack | TcpFlags.Fin);
        Assert.Equal(2, peer.Take().Count);
    }
}
