using System.Runtime.CompilerServices;

namespace Xdp.TcpLite.Tests;

public class AcceptQueueTests
{
    private readonly AcceptQueue _queue = new();

    private static TcpConnection Connection() =>
        (TcpConnection)RuntimeHelpers.GetUninitializedObject(typeof(TcpConnection));

    [Fact]
    public void TryTake_Empty_GivesNone()
    {
        Assert.False(_queue.TryTake(out TcpConnection? connection));
        Assert.Null(connection);
    }

    [Fact]
    public void Listener_HostWithoutRoom_HasNone()
    {
        bool room = false;
        var listener = new Listener(null, backlog: 1, () => room);
        Assert.False(listener.HasRoomForWaiting);
        room = true;
        Assert.True(listener.HasRoomForWaiting);
        _queue.Add(Connection(), listener);
        Assert.False(listener.HasRoomForWaiting);
    }

    [Fact]
    public void TryTake_GivesConnectionsInOrderAndCountsByListener()
    {
        var one = new Listener(null, backlog: 2);
        var other = new Listener(null, backlog: 1);
        TcpConnection[] connections = [Connection(), Connection(), Connection()];
        _queue.Add(connections[0], one);
        _queue.Add(connections[1], other);
        _queue.Add(connections[2], one);
        (int One, int Other)[] left = [(1, 1), (1, 0), (0, 0)];
        Assert.Equal((false, false), (one.HasRoomForWaiting, other.HasRoomForWaiting));
        for (int i = 0; i < connections.Length; i++)
        {
            Assert.True(_queue.TryTake(out TcpConnection? connection));
            Assert.Same(connections[i], connection);
            Assert.Equal(left[i], (one.WaitingCount, other.WaitingCount));
        }
        Assert.False(_queue.TryTake(out _));
        Assert.Equal((true, true), (one.HasRoomForWaiting, other.HasRoomForWaiting));
    }
}
