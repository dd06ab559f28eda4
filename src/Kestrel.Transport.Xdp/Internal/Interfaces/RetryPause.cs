namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// How long to wait before an interface that refuses the program or its queues is tried again: twice as long each time.
/// An attempt is not free. It asks for the memory of all frames. And where only the last step fails, it attaches the
/// program and takes it off again, for which many drivers restart the interface.
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
