namespace Xdp.TcpLite;

/// <summary>
/// What a connection knows of the host at its other end: the way to it, when it was last heard of, and how often it was
/// answered.
/// </summary>
internal struct RemoteHost(SharedPath path, Instant now)
{
    /// <summary>A neighbour that was heard of this lately is still there (Linux's base_reachable_time).</summary>
    private static readonly TimeSpan s_trust = TimeSpan.FromSeconds(30);

    private SharedPath _path = path;
    private FineInstant _heardAt = new(now);

    /// <summary>Answers to segments of its that are not acceptable.</summary>
    internal AnswerLimit Challenges;

    /// <summary>Where segments are sent.</summary>
    internal readonly LinkPath Path => _path.Value;

    /// <summary>The same, for a record that outlives the connection.</summary>
    internal readonly SharedPath Shared => _path;

    internal void Take(SharedPath path) => _path = path;

    /// <summary>An acceptable segment has come. Its way is the way back.</summary>
    internal void Heard(in LinkPath from, PathCache paths, Instant now)
    {
        _heardAt = new FineInstant(now);
        if (from != _path.Value)
            _path = paths.Share(from);
    }

    /// <summary>How long ago an acceptable segment came, which acknowledges.</summary>
    internal readonly TimeSpan SinceHeard(Instant now) => _heardAt.Age(now);

    /// <summary>It was silent for so long that it may be gone from where it was.</summary>
    internal readonly bool IsSuspect(Instant now) => _heardAt.Age(now) >= s_trust;
}
