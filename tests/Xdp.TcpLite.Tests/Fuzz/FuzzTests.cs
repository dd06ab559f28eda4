namespace Xdp.TcpLite.Tests.Fuzz;

/// <summary>Fuzzing for a few seconds. The console runner, tests/Xdp.TcpLite.Fuzz, does it for as long as asked.</summary>
public class FuzzTests
{
    [Fact]
    public void Frames_FirstSeeds_HoldTheInvariants()
    {
        for (int seed = 1; seed <= 100; seed++)
            FrameFuzzer.Run(seed);
    }

    [Fact]
    public void Conversations_FirstSeeds_HoldTheInvariants()
    {
        for (int seed = 1; seed <= 60; seed++)
            ConversationFuzzer.Run(seed);
    }
}
