namespace Kestrel.Transport.Xdp.Internal.Listeners;

/// <summary>
/// What became of a host's endpoints: whether one came to this transport, and why the others were left to the socket
/// transport. Any thread.
/// </summary>
internal sealed class EndpointTally
{
    private readonly Lock _lock = new();
    private readonly OrderedDictionary<string, string> _left = [];
    private bool _anyTaken;

    /// <summary>Why the transport serves nothing; null when it serves something, or was asked for nothing.</summary>
    internal string? WhyNothing
    {
        get
        {
            lock (_lock)
                return _anyTaken || _left.Count == 0
                    ? null
                    : string.Join("; ", _left.Select(static endpoint => $"{endpoint.Key}: {endpoint.Value}"));
        }
    }

    internal void Take()
    {
        lock (_lock)
            _anyTaken = true;
    }

    internal void Leave(string endpoint, string reason)
    {
        lock (_lock)
            _left[endpoint] = reason;
    }
}
