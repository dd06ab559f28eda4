namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// How long to wait before an interface whose queues could not be opened is tried again: twice as long each time. An
/// attempt is not free. It attaches the program and takes it off again, for which many drivers restart the interface,
/// and it asks for the memory of all frames.
/// </summary>
internal sealed class RetryPause
{
    internal static readonly TimeSpan First = TimeSpan.FromSeconds(2), Longest = TimeSpan.FromMinutes(5);

    private TimeSpan _next = First;

    internal TimeSpan Next()
    {
        TimeSpan pause = _next;
        _next = pause * 2 < Longest ? pause * 2 : Longest;
        return pause;
    }

    /// <summary>It went well, or something has changed that may make it go well.</summary>
    internal void Reset() => _next = First;
}
