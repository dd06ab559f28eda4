using Xdp.TcpLite.Tests.Simulation;

namespace Xdp.TcpLite.Tests;

public class CongestionAlgorithmTests
{
    /// <summary>
    /// What a loss leaves of the window tells the algorithms apart: half of it, or 0.7 (RFC 9438, section 4.6).
    /// </summary>
    [Theory]
    [InlineData(CongestionAlgorithm.NewReno, 0.5)]
    [InlineData(CongestionAlgorithm.Cubic, 0.7)]
    public void Option_IsWhatConnectionsUse(CongestionAlgorithm algorithm, double beta)
    {
        var options = new TcpStackOptions { CongestionControl = algorithm, UserTimeout = TimeSpan.FromMinutes(1) };
        var host = new SimHost("host", SegmentBuilder.ServerV4, SegmentBuilder.Path.LocalMac, options, frames: 64);
        Instant now = new(TimeSpan.TicksPerHour);
        TcpConnection connection = host.Stack.Connect(SegmentBuilder.FlowV4, SegmentBuilder.Path, now)!;
        Packet syn = default;
        host.Emit(now, packet => PacketParser.Parse(packet, acceptPartialChecksum: false, out syn));
        var answer = new SegmentBuilder
        {
            Fields = new SegmentFields
            {
                Seq = new SeqNumber(1),
                Ack = syn.End,
                Flags = TcpFlags.Syn | TcpFlags.Ack,
                Window = ushort.MaxValue,
                Mss = 1000,
            },
        };
        host.Deliver(answer.Build(), now);
        Assert.Equal(TcpState.Established, connection.State);
        Block block = host.Blocks.Take();
        block.Length = 4000;
        BlockQueue data = default;
        data.Enqueue(block);
        connection.Write(ref data);
        host.Emit(now, _ => { });
        Assert.Equal(4000, connection.GetInfo(now).Unacked);
        host.Stack.OnDeadline(now + TimeSpan.FromSeconds(2));
        // Of the initial window, though the flight was less than half of it.
        Assert.Equal((1000, (long)(10_000 * beta)), (connection.GetInfo(now).Cwnd, connection.GetInfo(now).Ssthresh));
        connection.Abort();
        host.Emit(now + TimeSpan.FromSeconds(2), _ => { });
    }

    [Fact]
    public void Default_IsCubic()
    {
        Assert.Equal(CongestionAlgorithm.Cubic, new TcpStackOptions().CongestionControl);
        Assert.IsType<Cubic>(CongestionControls.Create(CongestionAlgorithm.Cubic, 1));
        Assert.IsType<NewReno>(CongestionControls.Create(CongestionAlgorithm.NewReno, 1));
        Assert.IsType<Bbr>(CongestionControls.Create(CongestionAlgorithm.Bbr, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => CongestionControls.Create((CongestionAlgorithm)3, 1));
    }
}
