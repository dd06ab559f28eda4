using System.Buffers.Binary;

namespace HelloWeb;

/// <summary>
/// Bytes that tell their own offset: the eight at offset 8·i are SplitMix64(i), little-endian. No two places look
/// alike, so a segment that is lost, repeated, swapped or taken from another offset shows.
/// </summary>
internal static class BytePattern
{
    /// <summary>Writes what belongs at <paramref name="offset"/> of the pattern.</summary>
    public static void Fill(Span<byte> destination, long offset)
    {
        Span<byte> word = stackalloc byte[sizeof(ulong)];
        int skip = (int)(offset & 7);
        ulong index = (ulong)offset >> 3;
        if (skip != 0)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(word, Word(index++));
            int head = Math.Min(8 - skip, destination.Length);
            word.Slice(skip, head).CopyTo(destination);
            destination = destination[head..];
        }

        for (; destination.Length >= 8; destination = destination[8..])
            BinaryPrimitives.WriteUInt64LittleEndian(destination, Word(index++));

        if (!destination.IsEmpty)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(word, Word(index));
            word[..destination.Length].CopyTo(destination);
        }
    }

    private static ulong Word(ulong index)
    {
        ulong z = (index + 1) * 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
