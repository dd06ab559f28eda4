namespace Xdp.TcpLite;

/// <summary>
/// Objects that a connection needs now and then, and that most connections do without at any moment. Each stack has its
/// own. No more than <paramref name="most"/> are kept, so that a peak does not hold memory for ever.
/// </summary>
internal sealed class LendingPool<T>(int most)
    where T : class, new()
{
    private T[] _spare = new T[Math.Min(most, 16)];
    private int _count;

    internal T Borrow() => _count > 0 ? _spare[--_count] : new T();

    /// <summary>Takes back an object, which is as new again.</summary>
    internal void Return(T item)
    {
        if (_count == _spare.Length && !TryGrow())
            return;
        _spare[_count++] = item;
    }

    private bool TryGrow()
    {
        if (_count == most)
            return false;
        Array.Resize(ref _spare, Math.Min(2 * _count, most));
        return true;
    }
}
