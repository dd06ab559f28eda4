namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>A host asks whether an address that it has lost is still somebody's local end.</summary>
public class AddressInUseTests
{
    private static readonly (IpAddr, ushort) s_own = (Rig.ServerAddress, Rig.Port);
    private static readonly (IpAddr, ushort) s_otherPort = (Rig.ServerAddress, 81);
    private static readonly (IpAddr, ushort) s_otherAddress = (IpAddr.FromIPv4(0x0a000003), Rig.Port);

    private readonly Rig _rig = new();

    [Fact]
    public void HalfOpen_Established_AndTimeWait_AreInUse()
    {
        AssertInUse();
        var half = new Peer(_rig);
        half.Send(half.Syn());
        AssertInUse(s_own);
        half.Send(half.Fields(TcpFlags.Rst) with { Seq = half.Iss + 1 });
        AssertInUse();

        var peer = new Peer(_rig, port: 40001);
        TcpConnection connection = peer.Connect();
        AssertInUse(s_own);
        connection.Close();
        _rig.Emit();
        peer.AckUpTo(connection.SndNxt);
        peer.Send(TcpFlags.Fin | TcpFlags.Ack);
        Assert.Equal((0, 1), (_rig.Stack.ConnectionCount, _rig.Stack.TimeWaitCount));
        AssertInUse(s_own);
        _rig.Advance(TimeSpan.FromMinutes(2));
        AssertInUse();
    }

    [Fact]
    public void OnlyWhatWasAskedFor_IsTold()
    {
        new Peer(_rig).Connect();
        var found = new HashSet<(IpAddr, ushort)>();
        _rig.Stack.FindInUse(new HashSet<(IpAddr, ushort)> { s_otherPort }, found);
        Assert.Empty(found);
    }

    private void AssertInUse(params (IpAddr, ushort)[] expected)
    {
        var found = new HashSet<(IpAddr, ushort)>();
        _rig.Stack.FindInUse(new HashSet<(IpAddr, ushort)> { s_own, s_otherPort, s_otherAddress }, found);
        Assert.Equal(expected, found);
    }
}
