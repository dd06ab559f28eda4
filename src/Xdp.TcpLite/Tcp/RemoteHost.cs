namespace Xdp.TcpLite;

/// <summary>
/// What a connection knows of the host at its other end: the way to it, when it was last heard of, and how often it was
/// answered.
/// </summary>
internal struct RemoteHost(Route route, Instant now)
{
    /// <summary>A neighbour that was heard of this lately is still there (Linux's base_reachable_time).</summary>
    private static readonly TimeSpan s_trust = TimeSpan.FromSeconds(30);

    private FineInstant _heardAt = new(now);

    /// <summary>Answers to segments of its that are not acceptable.</summary>
    internal AnswerLimit Challenges;

    /// <summary>Where segments are sent.</summary>
    internal Route Route = route;

    /// <summary>An acceptable segment has come. Unless the host knows the routes, its way is the way back.</summary>
    internal void Heard(in LinkPath from, StackEnvironment environment, Instant now)
    {
        _heardAt = new FineInstant(now);
        if (environment.Routes is null && from != Route.Value)
            Route = environment.Paths.Share(from);
    }

    /// <summary>How long ago an acceptable segment came, which acknowledges.</summary>
    internal readonly TimeSpan SinceHeard(Instant now) => _heardAt.Age(now);

    /// <summary>It was silent for so long that it may be gone from where it was.</summary>
    internal readonly bool IsSuspect(Instant now) => _heardAt.Age(now) >= s_trust;
}
