namespace Xdp.TcpLite.Tests.Simulation;

/// <summary>Paths and applications that are out of the ordinary.</summary>
public class FlowTests
{
    private static void AssertDone(bool done, Network network, Flows flows)
    {
        Assert.True(done, $"stalled at {network.Now}: {flows.Clients.First().Connection.GetInfo(network.Now)}");
        network.Settle();
        Assert.Equal((0, 0), (network.Client.Outstanding, network.Server.Outstanding));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void SlowWayBack_DoesNotHoldBackTheData(int seed)
    {
        var down = new LinkOptions { Rate = 200_000, Buffer = 4 << 10, Loss = 0.02 };
        var network = new Network(seed, new LinkOptions { Rate = 20_000_000, Buffer = 128 << 10 }, down);
        var flows = new Flows(network, 1, 4_000_000);
        Instant start = network.Now;
        AssertDone(flows.Run(), network, flows);
        Assert.True(flows.AllDone - start < TimeSpan.FromSeconds(4), $"{flows.AllDone - start} for what takes 1.6 s");
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void SlowReader_GetsEveryByte(int seed)
    {
        var options = new TcpStackOptions { ReceiveBufferInitial = 8192, ReceiveBufferMax = 16384 };
        var network = new Network(seed, new LinkOptions { Loss = 0.01 }, server: options);
        var flows = new Flows(network, 1, 200_000, mostPerRead: 500);
        AssertDone(flows.Run(), network, flows);
        Assert.Equal(200_000, flows.Servers[40000].Received);
    }

    [Theory]
    [InlineData(1, 4000)]
    [InlineData(2, 20_000)]
    public void SmallSendBuffer_LimitsAndDoesNotStall(int seed, long sendBuffer)
    {
        var network = new Network(seed, new LinkOptions { Loss = 0.02 });
        var flows = new Flows(network, 1, 500_000, sendBuffer);
        AssertDone(flows.Run(), network, flows);
    }

    [Theory]
    [InlineData(1, 8)]
    [InlineData(2, 8)]
    [InlineData(3, 20)]
    public void ManyFlows_ThroughOneBottleneck_ShareItFairly(int seed, int count)
    {
        var link = new LinkOptions
        {
            Rate = 50_000_000,
            Buffer = 128 << 10,
            Delay = TimeSpan.FromMilliseconds(10),
            Jitter = TimeSpan.FromMilliseconds(0.1),
        };
        var network = new Network(seed, link);
        var flows = new Flows(network, count, 2_000_000);
        AssertDone(flows.Run(), network, flows);
        Assert.True(flows.Fairness > 0.7, $"Jain's index {flows.Fairness}: {string.Join(", ", flows.AtFirstDone)}");
    }

    [Theory]
    [InlineData(1, 1300, true)]
    [InlineData(2, 600, true)]
    [InlineData(3, 1000, false)]
    [InlineData(4, 600, false)]
    public void Mtu_ThatShrinksInFlight_IsFoundOut(int seed, int mtu, bool tells)
    {
        var network = new Network(seed, new LinkOptions { Rate = 20_000_000 });
        var flows = new Flows(network, 1, 1_500_000);
        Instant shrinks = network.Now + TimeSpan.FromMilliseconds(200);
        bool done = flows.Run(() =>
        {
            if (network.Now >= shrinks)
                network.Up.Options = network.Up.Options with { Mtu = mtu, TellsTooBig = tells };
        });
        AssertDone(done, network, flows);
        Assert.True(network.Up.TooBig > 0);
        Assert.Equal(1_500_000, flows.Servers[40000].Received);
    }

    /// <summary>The bottleneck's queue is a tenth of what is in flight: what comes in bursts is lost there.</summary>
    [Fact]
    public void ShortQueue_TakesWhatIsPaced()
    {
        double paced = Goodput(pacing: true), bursts = Goodput(pacing: false);
        Assert.True(paced > 27 && paced > 1.3 * bursts, $"{paced:F1} and {bursts:F1} of 50 Mbit/s");

        static double Goodput(bool pacing)
        {
            const long bytes = 10_000_000;
            TimeSpan delay = TimeSpan.FromMilliseconds(50);
            var link = new LinkOptions { Rate = 50_000_000, Delay = delay, Buffer = 64 << 10 };
            var options = new TcpStackOptions { Pacing = pacing };
            var network = new Network(1, link, link with { Rate = 0 }, options, options, frames: 4096);
            Instant start = network.Now;
            var flows = new Flows(network, 1, bytes);
            AssertDone(flows.Run(), network, flows);
            Assert.Equal(pacing, network.Client.Stack.Counters.PacingWaits > 0);
            return bytes * 8 / (flows.AllDone!.Value - start).TotalSeconds / 1e6;
        }
    }

    /// <summary>
    /// RFC 4821, section 7.7: when small segments are lost as well, the size is not the reason. After the outage full
    /// segments carry the flow, at the path's rate.
    /// </summary>
    [Theory]
    [InlineData(20, false)]
    [InlineData(80, false)]
    [InlineData(20, true)]
    public void Outage_IsNoBlackHole(int seconds, bool ipv6)
    {
        const long bytes = 40_000_000;
        var link = new LinkOptions { Rate = 50_000_000 };
        var network = new Network(1, link, link with { Rate = 0 }, ipv6: ipv6);
        var flows = new Flows(network, 1, bytes);
        Instant begins = network.Now + TimeSpan.FromMilliseconds(500);
        Instant ends = begins + TimeSpan.FromSeconds(seconds);
        Instant? resumed = null;
        long before = 0;
        int least = int.MaxValue, last = 0;
        bool done = flows.Run(() =>
        {
            bool isOut = network.Now >= begins && network.Now < ends;
            network.Up.Options = link with { Loss = isOut ? 1 : 0 };
            TcpConnectionInfo info = flows.Clients.First().Connection.GetInfo(network.Now);
            if (info.State == TcpState.CloseWait)
                (least, last) = (Math.Min(least, info.SndMss), info.SndMss);
            if (!flows.Servers.TryGetValue(40000, out SimApplication? server))
                return;
            if (network.Now < ends)
                before = server.Received;
            else if (resumed is null && server.Received > before)
                resumed = network.Now;
        });
        AssertDone(done, network, flows);
        int headers = (ipv6 ? 60 : 40) + 12;
        Assert.Equal(1500 - headers, last);
        Assert.True(least >= (ipv6 ? 1280 : 552) - headers, $"{least} bytes a segment");
        double rate = (bytes - before) * 8 / (flows.AllDone!.Value - resumed!.Value).TotalSeconds / 1e6;
        Assert.True(rate > 40, $"{rate:F1} of 50 Mbit/s");
    }

    /// <summary>
    /// RFC 4821, section 7.3: the largest size is found by a search, and the link's is tried again after ten minutes.
    /// The flow never idles.
    /// </summary>
    [Theory]
    [InlineData(1300, false)]
    [InlineData(700, false)]
    [InlineData(1300, true)]
    public void BlackHole_IsMeasuredAndTriedAgain(int mtu, bool ipv6)
    {
        var link = new LinkOptions { Rate = 300_000 };
        var network = new Network(1, link, link, ipv6: ipv6);
        var flows = new Flows(network, 1, 30_000_000, sendBuffer: 100_000);
        Instant begins = network.Now + TimeSpan.FromSeconds(1);
        Instant ends = begins + TimeSpan.FromSeconds(300);
        int during = 0, last = 0;
        bool done = flows.Run(() =>
        {
            bool isSmall = network.Now >= begins && network.Now < ends;
            network.Up.Options = link with { Mtu = isSmall ? mtu : 1500, TellsTooBig = false };
            TcpConnectionInfo info = flows.Clients.First().Connection.GetInfo(network.Now);
            if (info.State != TcpState.CloseWait)
                return;
            last = info.SndMss;
            if (isSmall)
                during = last;
        });
        AssertDone(done, network, flows);
        int headers = (ipv6 ? 60 : 40) + 12;
        Assert.InRange(during, mtu - headers - 8, mtu - headers);
        Assert.Equal(1500 - headers, last);
    }

    /// <summary>
    /// RFC 9406: slow start slows down when the buffer fills, and not when it has overflowed. Otherwise 1408 and 534
    /// segments would be lost.
    /// </summary>
    [Theory]
    [InlineData(100, 1024, 280)]
    [InlineData(40, 512, 170)]
    public void SlowStart_IntoALargeBuffer_OverflowsItLess(int roundTrip, int buffer, int most)
    {
        var link = new LinkOptions
        {
            Rate = 50_000_000,
            Buffer = buffer << 10,
            Delay = TimeSpan.FromMilliseconds(roundTrip / 2.0),
        };
        var network = new Network(1, link, link with { Rate = 0 });
        var flows = new Flows(network, 1, 10_000_000, sendBuffer: 8 << 20);
        Instant start = network.Now;
        AssertDone(flows.Run(), network, flows);
        double rate = 10_000_000 * 8 / (flows.AllDone!.Value - start).TotalSeconds / 1e6;
        Assert.True(network.Up.Overflowed <= most, $"{network.Up.Overflowed} segments lost, {rate:F1} Mbit/s");
        Assert.True(rate > 30, $"{rate:F1} of 50 Mbit/s");
    }
}
