namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// Finds out that packets vanish which the program redirects: none arrives at a socket. The kernel drops what it cannot
/// hand over, and counts it nowhere. A device is like that whose packets come in through another one. Owns what was
/// seen last. Under the engine's lock. Times are in milliseconds.
/// </summary>
internal sealed class RedirectWatch
{
    /// <summary>How long packets vanish before that is believed.</summary>
    internal const long Patience = 1_000;

    private long _arrived, _since;
    private ulong _missing;
    private ulong? _redirected;

    /// <returns>Packets vanish.</returns>
    /// <param name="arrived">Packets that have ever arrived at the sockets.</param>
    /// <param name="readRedirected">Tells how many were ever redirected. Not asked while packets arrive.</param>
    /// <param name="now">In milliseconds.</param>
    internal bool Check(long arrived, Func<ulong> readRedirected, long now)
    {
        if (arrived != _arrived)
        {
            _arrived = arrived;
            _redirected = null;
            return false;
        }
        ulong redirected = readRedirected();
        if (_redirected is not { } before)
        {
            (_redirected, _missing) = (redirected, 0);
            return false;
        }
        ulong missing = redirected - before;
        if (_missing == 0)
        {
            (_missing, _since) = (missing, now);
            return false;
        }
        // A peer tries again. One packet alone may have been lost in another way.
        return missing > _missing && now - _since >= Patience;
    }
}
