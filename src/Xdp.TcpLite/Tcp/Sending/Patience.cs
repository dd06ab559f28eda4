namespace Xdp.TcpLite;

/// <summary>How the user timeout (RFC 5482) bounds a deadline.</summary>
internal static class Patience
{
    /// <summary>The deadline, or the end of the user timeout if that comes first. It never lies in the past.</summary>
    /// <param name="userTimeout">How long to wait in all.</param>
    /// <param name="deadline">Of the timer.</param>
    /// <param name="since">When the waiting began.</param>
    /// <param name="now">The present.</param>
    internal static Instant Within(TimeSpan userTimeout, Instant deadline, Instant since, Instant now)
    {
        TimeSpan left = userTimeout - (deadline - since);
        return left >= TimeSpan.Zero ? deadline : Instant.Max(now, deadline + left);
    }
}
