namespace Xdp.TcpLite.Tests;

public class ListenersTests
{
    private static readonly FlowKey s_flow = SegmentBuilder.FlowV4;

    private readonly Listeners _listeners = new(backlog: 2);

    private object? OwnerOf(in FlowKey flow) => _listeners.Find(flow)?.Owner;

    [Fact]
    public void Find_OwnAddressComesBeforeEveryAddress()
    {
        Assert.Null(_listeners.Find(s_flow));
        _listeners.Open(default, s_flow.LocalPort, "every");
        Assert.Equal("every", OwnerOf(s_flow));
        _listeners.Open(s_flow.Local, s_flow.LocalPort, "own");
        Assert.Equal("own", OwnerOf(s_flow));
        Assert.Equal("every", OwnerOf(s_flow with { Local = IpAddr.FromIPv4(0x0a000009) }));
        Assert.Equal("every", OwnerOf(SegmentBuilder.FlowV6));
        Assert.Null(_listeners.Find(s_flow with { LocalPort = 1 }));
    }

    [Fact]
    public void Open_Twice_KeepsTheFirst()
    {
        _listeners.Open(s_flow.Local, s_flow.LocalPort, "first");
        _listeners.Open(s_flow.Local, s_flow.LocalPort, "second");
        Assert.Equal("first", OwnerOf(s_flow));
    }

    [Fact]
    public void Close_TellsTheListenerAndLeavesTheOthers()
    {
        _listeners.Open(default, s_flow.LocalPort, "every");
        _listeners.Open(s_flow.Local, s_flow.LocalPort, "own");
        Listener own = _listeners.Find(s_flow)!;
        _listeners.Close(s_flow.Local, s_flow.LocalPort);
        _listeners.Close(s_flow.Local, s_flow.LocalPort);
        Assert.True(own.IsClosed);
        Assert.Equal("every", OwnerOf(s_flow));
        Assert.False(_listeners.Find(s_flow)!.IsClosed);
    }

    [Fact]
    public void Open_AfterClose_IsANewListener()
    {
        _listeners.Open(s_flow.Local, s_flow.LocalPort, null);
        Listener closed = _listeners.Find(s_flow)!;
        _listeners.Close(s_flow.Local, s_flow.LocalPort);
        _listeners.Open(s_flow.Local, s_flow.LocalPort, null);
        Assert.NotSame(closed, _listeners.Find(s_flow));
        Assert.False(_listeners.Find(s_flow)!.IsClosed);
    }

    [Fact]
    public void Listener_BoundsBothCountsByTheBacklog()
    {
        _listeners.Open(s_flow.Local, s_flow.LocalPort, null);
        Listener listener = _listeners.Find(s_flow)!;
        listener.HalfOpenAdded();
        Assert.True(listener.HasRoomForHalfOpen);
        listener.HalfOpenAdded();
        Assert.Equal((false, true), (listener.HasRoomForHalfOpen, listener.HasRoomForWaiting));
        listener.HalfOpenRemoved();
        Assert.True(listener.HasRoomForHalfOpen);
        listener.WaitingAdded();
        listener.WaitingAdded();
        Assert.Equal((true, false), (listener.HasRoomForHalfOpen, listener.HasRoomForWaiting));
        listener.WaitingRemoved();
        Assert.Equal((1, 1), (listener.HalfOpenCount, listener.WaitingCount));
        Assert.True(listener.HasRoomForWaiting);
    }
}
