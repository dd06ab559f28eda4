namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// How many connections of an endpoint wait to be taken by the application, over all queues and the companion. Any
/// thread.
/// </summary>
/// <param name="limit">Above it no handshake ends, and the companion leaves connections to the kernel's queue.</param>
internal sealed class AcceptBacklog(int limit)
{
    private int _waiting;

    internal bool HasRoom => Volatile.Read(ref _waiting) < limit;

    internal void Added() => Interlocked.Increment(ref _waiting);

    internal void Taken() => Interlocked.Decrement(ref _waiting);
}
