namespace Xdp.TcpLite;

/// <summary>
/// Objects that a connection needs now and then, and that most connections do without at any moment. A stack's, and called by whoever may call the stack.
/// Keeps no more than <paramref name="most"/>, so that what many needed at once is not kept for ever.
/// </summary>
internal sealed class LendingPool<T>(int most)
    where T : class, new()
{
    private readonly Stack<T> _free = new();

    /// <summary>What a connection refers to that has borrowed none: as new, and never written to, so that it can be read without asking.</summary>
    internal T None { get; } = new();

    internal T Borrow() => _free.TryPop(out T? item) ? item : new T();

    /// <summary>Takes back an object, which is as new again.</summary>
    internal void Return(T item)
    {
        if (_free.Count < most)
            _free.Push(item);
    }
}
