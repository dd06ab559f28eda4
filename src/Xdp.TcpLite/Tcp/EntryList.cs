namespace Xdp.TcpLite;

/// <summary>What has a place in an <see cref="EntryList{T}"/>. The list alone sets it.</summary>
internal interface IListed<T>
    where T : class
{
    T? Older { get; set; }
    T? Newer { get; set; }
}

/// <summary>
/// Entries in the order in which they were added. Each is linked by its own fields, so it is in one such list.
/// </summary>
internal struct EntryList<T>
    where T : class, IListed<T>
{
    private T? _newest;

    internal T? Oldest { get; private set; }

    internal void Add(T entry)
    {
        entry.Older = _newest;
        if (_newest is { } newest)
            newest.Newer = entry;
        else
            Oldest = entry;
        _newest = entry;
    }

    internal void Remove(T entry)
    {
        if (entry.Older is { } older)
            older.Newer = entry.Newer;
        else
            Oldest = entry.Newer;
        if (entry.Newer is { } newer)
            newer.Older = entry.Older;
        else
            _newest = entry.Older;
        entry.Older = entry.Newer = null;
    }
}
