using System.Buffers.Binary;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>
/// The pattern of HelloWeb's /bytes, written a second time so that an error in one shows: the eight bytes at offset 8·i
/// are SplitMix64(i), little-endian.
/// </summary>
internal static class Pattern
{
    internal static void AssertMatches(ReadOnlySpan<byte> bytes, long offset)
    {
        Span<byte> word = stackalloc byte[sizeof(ulong)];
        for (int i = 0; i < bytes.Length;)
        {
            long at = offset + i;
            BinaryPrimitives.WriteUInt64LittleEndian(word, SplitMix64((ulong)at >> 3));
            ReadOnlySpan<byte> expected = word[(int)(at & 7)..];
            int count = Math.Min(expected.Length, bytes.Length - i);
            if (!bytes.Slice(i, count).SequenceEqual(expected[..count]))
            {
                string found = Convert.ToHexString(bytes.Slice(i, count));
                Assert.Fail($"At offset {at} is {found} instead of {Convert.ToHexString(expected[..count])}.");
            }
            i += count;
        }
    }

    /// <summary>Bytes that no other seed has.</summary>
    internal static void Fill(Span<byte> bytes, ulong seed)
    {
        Span<byte> word = stackalloc byte[sizeof(ulong)];
        for (ulong i = seed << 32; !bytes.IsEmpty; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(word, SplitMix64(i));
            int count = Math.Min(word.Length, bytes.Length);
            word[..count].CopyTo(bytes);
            bytes = bytes[count..];
        }
    }

    private static ulong SplitMix64(ulong index)
    {
        ulong z = (index + 1) * 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
