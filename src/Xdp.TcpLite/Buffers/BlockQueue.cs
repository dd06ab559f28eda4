namespace Xdp.TcpLite;

/// <summary>
/// A first-in first-out list of blocks. Whoever has the queue owns the blocks. It is a mutable struct: pass it by
/// <c>ref</c>, or give it away whole.
/// </summary>
public struct BlockQueue
{
    public Block? Head { get; private set; }
    public Block? Tail { get; private set; }

    /// <summary>
    /// Bytes in the blocks, as long as the lengths of blocks in the queue change through the queue only.
    /// </summary>
    public long Bytes { get; private set; }

    public readonly bool IsEmpty => Head is null;

    /// <summary>Shows what is behind the first block. The blocks stay in this queue.</summary>
    internal readonly BlockQueue BehindHead =>
        Head?.Next is { } next ? new BlockQueue { Head = next, Tail = Tail, Bytes = Bytes - Head.Length } : default;

    public void Enqueue(Block block)
    {
        block.Next = null;
        if (Tail is null)
            Head = block;
        else
            Tail.Next = block;
        Tail = block;
        Bytes += block.Length;
    }

    /// <summary>Appends all of <paramref name="other"/>, which is empty afterwards.</summary>
    public void Append(ref BlockQueue other)
    {
        if (other.Head is null)
            return;
        if (Tail is null)
            Head = other.Head;
        else
            Tail.Next = other.Head;
        Tail = other.Tail;
        Bytes += other.Bytes;
        other = default;
    }

    /// <summary>Takes the first block, or null. Its current length leaves <see cref="Bytes"/>.</summary>
    public Block? Dequeue()
    {
        Block? block = Head;
        if (block is null)
            return null;
        Head = block.Next;
        if (Head is null)
            Tail = null;
        block.Next = null;
        Bytes -= block.Length;
        return block;
    }

    /// <summary>
    /// Copies as much of <paramref name="source"/> into the last block as there is room for, and returns how many bytes
    /// that was.
    /// </summary>
    public int AppendToTail(ReadOnlySpan<byte> source)
    {
        if (Tail is null)
            return 0;
        int count = Tail.Append(source);
        Bytes += count;
        return count;
    }

    /// <summary>So many bytes have been written behind those of the last block.</summary>
    internal void ExtendTail(int count)
    {
        Tail!.Length += count;
        Bytes += count;
    }

    /// <summary>
    /// Drops <paramref name="count"/> bytes from the front of the first block. The block stays, even when it is empty.
    /// </summary>
    public void TrimHead(int count)
    {
        Head!.Start += count;
        Head.Length -= count;
        Bytes -= count;
    }

    /// <summary>Returns every block to its pool.</summary>
    public void ReturnAll()
    {
        while (Dequeue() is { } block)
            block.Return();
    }
}
