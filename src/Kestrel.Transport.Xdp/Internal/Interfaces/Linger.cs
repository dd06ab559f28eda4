namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// How long an exit waits for peers to acknowledge what was sent to them. With kernel sockets the kernel goes on
/// delivering after the process has ended. Here nobody does.
/// </summary>
/// <param name="silence">Ends the wait when no peer acknowledges anything for so long.</param>
/// <param name="most">Ends it in any case, unless <paramref name="silence"/> is longer.</param>
/// <param name="start">The present.</param>
internal sealed class Linger(TimeSpan silence, TimeSpan most, TimeSpan start)
{
    /// <summary>Time between two looks.</summary>
    internal static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(10);

    private readonly TimeSpan _end = start + (most > silence ? most : silence);
    private TimeSpan _heardAt = start;
    private long _acknowledged;
    private bool _hasLooked;

    /// <summary>Is it worth waiting on?</summary>
    /// <param name="connections">Connections whose peers have not acknowledged everything.</param>
    /// <param name="acknowledged">Bytes that peers have acknowledged by now.</param>
    /// <param name="now">The present, on the clock of the start.</param>
    internal bool GoesOn(int connections, long acknowledged, TimeSpan now)
    {
        if (_hasLooked && acknowledged != _acknowledged)
            _heardAt = now;
        (_hasLooked, _acknowledged) = (true, acknowledged);
        return connections > 0 && now < _end && now - _heardAt < silence;
    }
}
