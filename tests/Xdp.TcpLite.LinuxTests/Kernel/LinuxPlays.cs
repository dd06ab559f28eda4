using System.Collections.Concurrent;
using Xdp.TcpLite.Tests.Conformance;

namespace Xdp.TcpLite.LinuxTests.Kernel;

/// <summary>
/// Plays scripts against the kernel, many at a time: they spend their time waiting. Each has a namespace of its own.
/// </summary>
internal sealed class LinuxPlays
{
    /// <summary>More make the test late too often, and then it plays again.</summary>
    private const int AtATime = 10;

    /// <summary>Of what must be the same; half as many of what must differ, whose differences may be of time.</summary>
    private const int Attempts = 4;

    private readonly Dictionary<(string Name, bool IPv6), TaskCompletionSource<Played>> _plays = [];

    /// <summary>Starts all of them, the longest first.</summary>
    internal LinuxPlays(IEnumerable<(Script Script, bool IPv6)> scripts)
    {
        var queue = new ConcurrentQueue<(Script Script, bool IPv6, int Attempt)>(
            scripts.OrderByDescending(play => Length(play.Script)).Select(play => (play.Script, play.IPv6, 1)));
        foreach ((Script script, bool ipv6, _) in queue)
            _plays.Add((script.Name, ipv6), new TaskCompletionSource<Played>());
        // Threads of their own: they change their namespace, and end with it.
        for (int i = 0; i < AtATime; i++)
            new Thread(() => PlayAll(queue)) { IsBackground = true }.Start();
    }

    internal Task<Played> Of(string name, bool ipv6) => _plays[(name, ipv6)].Task;

    /// <summary>How long a script takes, by its own times.</summary>
    internal static TimeSpan Length(Script script) =>
        script.Steps.Aggregate(TimeSpan.Zero, (sum, step) => step.IsRelative ? sum + step.At : step.At);

    private void PlayAll(ConcurrentQueue<(Script Script, bool IPv6, int Attempt)> queue)
    {
        while (queue.TryDequeue(out (Script Script, bool IPv6, int Attempt) next))
        {
            TaskCompletionSource<Played> play = _plays[(next.Script.Name, next.IPv6)];
            try
            {
                Played played = LinuxPlayer.Play(next.Script, next.IPv6);
                // Again when the others are done, and the machine has less to do.
                if (IsInDoubt(next.Script, played, next.Attempt))
                    queue.Enqueue((next.Script, next.IPv6, next.Attempt + 1));
                else
                    play.SetResult(played);
            }
            catch (Exception e)
            {
                play.SetException(e);
            }
        }
    }

    /// <summary>
    /// A busy machine may make a difference, and hide one. A real one is there each time. What a delay has made of
    /// the kernel's round-trip time may show much later.
    /// </summary>
    private static bool IsInDoubt(Script script, Played played, int attempt) => script.LinuxDiffers is null
        ? played.Difference is not null && attempt < Attempts
        : (played.IsTiming && attempt < Attempts / 2) || (played.Difference is null && attempt < Attempts);
}
