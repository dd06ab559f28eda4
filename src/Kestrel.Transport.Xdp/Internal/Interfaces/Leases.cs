namespace Kestrel.Transport.Xdp.Internal.Interfaces;

/// <summary>
/// Things that are made once for each key, shared by those who lease them, and closed when the last one gives his lease
/// back. Closing may take long, and holds up nobody but who wants the same key again. Any thread.
/// </summary>
internal sealed class Leases<TKey, T>(Action<T> close)
    where TKey : notnull
{
    // Waited on, which Lock cannot be.
    private readonly object _lock = new();
    private readonly Dictionary<TKey, Entry> _entries = [];

    private sealed class Entry(T item)
    {
        internal readonly T Item = item;

        /// <summary>None is left while it is being closed.</summary>
        internal int Count;
    }

    /// <summary>Waits while the key's thing is being closed. To be given back by <see cref="Release"/>.</summary>
    /// <param name="key">Of the thing.</param>
    /// <param name="create">Makes it, if nobody has it. One call at a time.</param>
    /// <param name="isNew">It was made.</param>
    internal T Lease(TKey key, Func<TKey, T> create, out bool isNew)
    {
        lock (_lock)
        {
            Entry? entry;
            while (_entries.TryGetValue(key, out entry) && entry.Count == 0)
                Monitor.Wait(_lock);
            isNew = entry is null;
            if (entry is null)
                _entries[key] = entry = new Entry(create(key));
            entry.Count++;
            return entry.Item;
        }
    }

    /// <summary>Returns once the thing is closed, if this was the last lease.</summary>
    internal void Release(TKey key)
    {
        Entry entry;
        lock (_lock)
        {
            entry = _entries[key];
            if (--entry.Count > 0)
                return;
        }
        try
        {
            close(entry.Item);
        }
        finally
        {
            lock (_lock)
            {
                _entries.Remove(key);
                Monitor.PulseAll(_lock);
            }
        }
    }
}
