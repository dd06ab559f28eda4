namespace Xdp.TcpLite;

/// <summary>
/// The largest value of the present slot of time and of the one before. What a slot is, a cycle or some round trips,
/// its owner decides.
/// </summary>
internal struct SlottedMax
{
    private long _present;
    private long _former;

    internal readonly long Value => Math.Max(_present, _former);

    internal void Add(long value) => _present = Math.Max(_present, value);

    /// <summary>
    /// The next slot begins, and what is older than the present one is forgotten. A slot without a value goes on.
    /// </summary>
    internal void Advance()
    {
        if (_present > 0)
            (_former, _present) = (_present, 0);
    }
}
