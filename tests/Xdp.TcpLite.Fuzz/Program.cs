using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Xdp.TcpLite.Tests.Fuzz;

// Fuzzes Xdp.TcpLite for as long as asked, in worlds that are each deterministic given their seed. It ends with a
// summary, or with the command that replays the world that failed. Should the process die, the seed is in the file that
// its last line of output names.

var count = new Argument<long>("count")
{
    Description = "how many, rounded up to whole worlds",
    Arity = ArgumentArity.ZeroOrOne,
    DefaultValueFactory = _ => 1_000_000,
};
var minutes = new Argument<double>("minutes") { Description = "how long" };
var seed = new Option<int?>("--seed") { Description = "seed of the first world; by default a new one each time" };
var worlds = new Option<int?>("--worlds") { Description = "how many worlds, in the place of a count" };

var frames = new Command("frames", "mutated frames against one stack") { count, seed, worlds };
frames.SetAction(
    arguments => Fuzz.Run(
        FrameFuzzer.Kind,
        arguments.GetValue(seed),
        Fuzz.Worlds(arguments.GetValue(worlds), arguments.GetValue(count), FrameFuzzer.FramesPerWorld)));
var conversations = new Command("conversations", "mutated conversations between two stacks") { count, seed, worlds };
conversations.SetAction(
    arguments => Fuzz.Run(
        ConversationFuzzer.Kind,
        arguments.GetValue(seed),
        Fuzz.Worlds(
            arguments.GetValue(worlds), arguments.GetValue(count), ConversationFuzzer.ConversationsPerWorld)));
var soak = new Command("soak", "everything in turn, until the time is up") { minutes, seed };
soak.SetAction(arguments => Fuzz.Soak(arguments.GetValue(seed), TimeSpan.FromMinutes(arguments.GetValue(minutes))));

return new RootCommand("Fuzzes Xdp.TcpLite.") { frames, conversations, soak }.Parse(args).Invoke();

internal static class Fuzz
{
    private static readonly TimeSpan s_reportEvery = TimeSpan.FromSeconds(10);

    /// <summary>A world takes milliseconds: one that takes this long hangs.</summary>
    private static readonly TimeSpan s_hang = TimeSpan.FromSeconds(60);

    private static readonly string s_seedFile = Path.Combine(
        Path.GetTempPath(), $"tcplite-fuzz-{Environment.ProcessId.ToString(CultureInfo.InvariantCulture)}.seed");
    private static string s_current = "";
    private static long s_startedAt;

    internal static int Worlds(int? worlds, long count, int perWorld) =>
        worlds ?? (int)((count + perWorld - 1) / perWorld);

    internal static int Run(string kind, int? seed, int worlds)
    {
        int first = Start(seed);
        var watch = Stopwatch.StartNew();
        TimeSpan reported = default;
        for (int i = 0; i < worlds; i++)
        {
            if (!World(kind, unchecked(first + i)))
                return 1;
            if (watch.Elapsed - reported > s_reportEvery)
                Report(kind, i + 1, reported = watch.Elapsed);
        }
        Report(kind, worlds, watch.Elapsed);
        Console.WriteLine($"no failure in seeds {first} to {unchecked(first + worlds - 1)}");
        File.Delete(s_seedFile);
        return 0;
    }

    internal static int Soak(int? seed, TimeSpan time)
    {
        int first = Start(seed);
        var watch = Stopwatch.StartNew();
        TimeSpan reported = default;
        int rounds = 0;
        for (; watch.Elapsed < time; rounds++)
        {
            if (!World(FrameFuzzer.Kind, unchecked(first + rounds))
                || !World(ConversationFuzzer.Kind, unchecked(first + rounds)))
                return 1;
            if (watch.Elapsed - reported > s_reportEvery)
            {
                Report(FrameFuzzer.Kind, rounds + 1, reported = watch.Elapsed);
                Report(ConversationFuzzer.Kind, rounds + 1, watch.Elapsed);
            }
        }
        Report(FrameFuzzer.Kind, rounds, watch.Elapsed);
        Report(ConversationFuzzer.Kind, rounds, watch.Elapsed);
        Console.WriteLine($"no failure in seeds {first} to {unchecked(first + rounds - 1)}");
        File.Delete(s_seedFile);
        return 0;
    }

    private static int Start(int? seed)
    {
        int first = seed ?? Random.Shared.Next();
        Console.WriteLine($"first seed {first}; the seed under way is in {s_seedFile}");
        s_startedAt = Stopwatch.GetTimestamp();
        new Thread(Watch) { IsBackground = true }.Start();
        return first;
    }

    private static bool World(string kind, int seed)
    {
        s_current = $"{kind} --seed {seed} --worlds 1";
        Volatile.Write(ref s_startedAt, Stopwatch.GetTimestamp());
        File.WriteAllText(s_seedFile, s_current);
        try
        {
            if (kind == FrameFuzzer.Kind)
                FrameFuzzer.Run(seed);
            else
                ConversationFuzzer.Run(seed);
            return true;
        }
        catch (FuzzException e)
        {
            Console.WriteLine(e.Message);
            Console.WriteLine(e.InnerException);
            return false;
        }
    }

    private static void Watch()
    {
        while (true)
        {
            Thread.Sleep(1000);
            if (Stopwatch.GetElapsedTime(Volatile.Read(ref s_startedAt)) > s_hang)
            {
                Console.WriteLine($"hangs: {s_current}");
                Environment.Exit(2);
            }
        }
    }

    private static void Report(string kind, long worlds, TimeSpan elapsed)
    {
        long count =
            worlds * (kind == FrameFuzzer.Kind ? FrameFuzzer.FramesPerWorld : ConversationFuzzer.ConversationsPerWorld);
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{elapsed:hh\\:mm\\:ss}  {count:N0} {kind} in {worlds:N0} worlds, {count / elapsed.TotalSeconds:N0}/s"));
    }
}
