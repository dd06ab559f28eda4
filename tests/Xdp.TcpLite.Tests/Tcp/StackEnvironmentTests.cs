using System.Reflection;

namespace Xdp.TcpLite.Tests;

public class StackEnvironmentTests
{
    private readonly PartRig _rig = new();

    [Fact]
    public void Reply_Rst_IsCountedAsOne()
    {
        Assert.True(Reply(TcpFlags.Ack));
        Assert.Equal(0, _rig.Counters.RstsSent);
        Assert.True(Reply(TcpFlags.Rst | TcpFlags.Ack));
        Assert.Equal(1, _rig.Counters.RstsSent);
        Assert.Equal([TcpFlags.Ack, TcpFlags.Rst | TcpFlags.Ack], _rig.TakeReplies().Select(reply => reply.Flags));
    }

    [Fact]
    public void Reply_QueueIsFull_SaysSo()
    {
        for (int i = 0; i < ReplyQueue.Capacity; i++)
            Assert.True(Reply(TcpFlags.Ack));
        Assert.False(Reply(TcpFlags.Ack));
    }

    private bool Reply(TcpFlags flags) =>
        _rig.Environment.Reply(SegmentBuilder.Path, SegmentBuilder.FlowV4, new SegmentFields { Flags = flags });

    [Fact]
    public void Submit_FrameCountsAsInTheKernel()
    {
        Block frame = _rig.Environment.Frames.TryTakeForSegment()!;
        _rig.Environment.Submit(frame, 100, 54, SegmentBuilder.Path, out TxPacket packet);
        Assert.Same(frame, packet.Frame);
        Assert.Equal((100, 54, 14), (packet.Start, packet.Length, packet.LinkHeaderLength));
        Assert.True(frame.InKernel);
        Assert.Equal(1, _rig.Counters.SegmentsOut);
    }

    /// <summary>The parts stay below the stack: of all types only its connections are given one.</summary>
    [Fact]
    public void Parts_DoNotKnowTheStack()
    {
        const BindingFlags all = BindingFlags.Instance | BindingFlags.Static | BindingFlags.Public
            | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;
        IEnumerable<Type> knowing = typeof(TcpStack).Assembly.GetTypes().Where(type =>
            type.GetFields(all).Any(field => field.FieldType == typeof(TcpStack))
            || type.GetConstructors(all).Cast<MethodBase>().Concat(type.GetMethods(all))
                .Any(method => method.GetParameters().Any(parameter => parameter.ParameterType == typeof(TcpStack))));
        Assert.Equal([typeof(TcpConnection)], knowing);
    }
}
