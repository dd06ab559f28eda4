using System.Globalization;
using System.Runtime.CompilerServices;

namespace Xdp.TcpLite.Tests.Fuzz;

/// <summary>
/// Fuzzing for a few seconds. The console runner, tests/Xdp.TcpLite.Fuzz, does it for as long as asked.
/// </summary>
public class FuzzTests
{
    public static TheoryData<string, int> Corpus()
    {
        var corpus = new TheoryData<string, int>();
        foreach (string line in File.ReadLines(Path.Combine(Path.GetDirectoryName(ThisFile())!, "corpus.txt")))
        {
            if (line.Split(' ') is [FrameFuzzer.Kind or ConversationFuzzer.Kind, _] words)
                corpus.Add(words[0], int.Parse(words[1], CultureInfo.InvariantCulture));
        }
        return corpus;
    }

    private static string ThisFile([CallerFilePath] string path = "") => path;

    [Theory]
    [MemberData(nameof(Corpus))]
    public void Corpus_HoldsTheInvariants(string kind, int seed)
    {
        if (kind == FrameFuzzer.Kind)
            FrameFuzzer.Run(seed);
        else
            ConversationFuzzer.Run(seed);
    }

    [Fact]
    public void Frames_FirstSeeds_HoldTheInvariants()
    {
        for (int seed = 1; seed <= 200; seed++)
            FrameFuzzer.Run(seed);
    }

    [Fact]
    public void Conversations_FirstSeeds_HoldTheInvariants()
    {
        for (int seed = 1; seed <= 80; seed++)
            ConversationFuzzer.Run(seed);
    }
}
