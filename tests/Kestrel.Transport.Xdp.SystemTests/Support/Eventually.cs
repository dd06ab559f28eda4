using System.Diagnostics;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>
/// Waits for a condition by asking again and again. Past the deadline it is a hang; no test depends on how long that
/// is.
/// </summary>
internal static class Eventually
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(10);

    internal static Task TrueAsync(Func<bool> condition, Func<string> otherwise) =>
        NullAsync(() => Task.FromResult(condition() ? null : otherwise()));

    internal static Task TrueAsync(Func<Task<bool>> condition, Func<string> otherwise) =>
        NullAsync(async () => await condition() ? null : otherwise());

    /// <param name="missing">What is still missing; null when nothing is.</param>
    internal static async Task NullAsync(Func<Task<string?>> missing)
    {
        var waited = Stopwatch.StartNew();
        while (await missing() is { } text)
        {
            Assert.True(waited.Elapsed < Deadline, $"After {Deadline.TotalSeconds:0} s: {text}");
            await Task.Delay(Pause);
        }
    }
}
