namespace Xdp.TcpLite.Tests.Simulation;

/// <summary>What BBR promises of whole flows: little loss of speed by losses, short queues, fair shares.</summary>
public class BbrFlowTests
{
    private static SteadyFlows.Result Run(
        CongestionAlgorithm algorithm, int roundTrip, double loss, double buffer) => new SteadyFlows
        {
            Algorithm = algorithm,
            RoundTrip = TimeSpan.FromMilliseconds(roundTrip),
            Loss = loss,
            Buffer = buffer,
            Duration = TimeSpan.FromSeconds(10),
        }.Run();

    /// <summary>Losses that are no congestion.</summary>
    [Theory]
    [InlineData(20, 0.1)]
    [InlineData(20, 1)]
    [InlineData(20, 4)]
    [InlineData(100, 0.1)]
    [InlineData(100, 1)]
    [InlineData(100, 4)]
    public void OnePercentLoss_IsThreeTimesAsFastAsCubic(int roundTrip, double buffer)
    {
        double cubic = Run(CongestionAlgorithm.Cubic, roundTrip, 0.01, buffer).Rate;
        double bbr = Run(CongestionAlgorithm.Bbr, roundTrip, 0.01, buffer).Rate;
        Assert.True(bbr > 3 * cubic, $"{bbr:F1} and {cubic:F1} Mbit/s");
    }

    /// <summary>With losses the rate comes down between two searches, by what is lost in each round trip.</summary>
    [Theory]
    [InlineData(20, 0, 44)]
    [InlineData(20, 0.01, 36)]
    [InlineData(100, 0, 44)]
    [InlineData(100, 0.01, 24)]
    public void LargeBuffer_IsNotFilled_AndThePathIsUsed(int roundTrip, double loss, double least)
    {
        SteadyFlows.Result result = Run(CongestionAlgorithm.Bbr, roundTrip, loss, buffer: 4);
        Assert.True(result.Queue < 0.5, $"a mean queue of {result.Queue:F2} products");
        Assert.True(result.Rate > least, $"{result.Rate:F1} of 50 Mbit/s");
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void TwoFlows_ShareFairly(int seed)
    {
        SteadyFlows.Result result = new SteadyFlows
        {
            Algorithm = CongestionAlgorithm.Bbr,
            Rate = 10_000_000,
            RoundTrip = TimeSpan.FromMilliseconds(40),
            Buffer = 2,
            Count = 2,
            Duration = TimeSpan.FromMinutes(1),
            Seed = seed,
        }.Run();
        Assert.True(result.Fairness > 0.8, $"Jain's index {result.Fairness:F2}: {string.Join(", ", result.Rates)}");
        Assert.True(result.Rate > 8.5, $"{result.Rate:F1} of 10 Mbit/s");
    }

    /// <summary>Ten answers over one connection, on request.</summary>
    [Theory]
    [InlineData(20, 3_000, 0, 1)]
    [InlineData(20, 14_000, 0, 1)]
    [InlineData(100, 14_000, 0, 1)]
    [InlineData(20, 14_000, 500, 1)]
    [InlineData(100, 100_000, 2_000, 1)]
    // Its first answer is paced by what was measured, which lags behind what slow start dares.
    [InlineData(100, 100_000, 0, 1.15)]
    public void SmallAnswers_TakeNoLongerThanWithCubic(int roundTrip, int bytes, int pause, double most)
    {
        TimeSpan cubic = Answers(CongestionAlgorithm.Cubic), bbr = Answers(CongestionAlgorithm.Bbr);
        Assert.True(bbr <= most * cubic, $"{bbr} and {cubic}");

        TimeSpan Answers(CongestionAlgorithm algorithm)
        {
            var up = new LinkOptions
            {
                Rate = 50_000_000,
                Delay = TimeSpan.FromMilliseconds(roundTrip / 2.0),
                Buffer = 1 << 20,
            };
            var options = new TcpStackOptions { CongestionControl = algorithm };
            var network = new Network(1, up, up with { Rate = 0 }, client: options);
            return Conversation.Run(network, answers: 10, bytes, TimeSpan.FromMilliseconds(pause));
        }
    }
}
