using System.Security.Cryptography;

namespace HelloWeb;

internal static class Transfers
{
    internal sealed record Received(long Length, string Sha256);

    // Bytes between two flushes: Kestrel's default write buffer limit is the same, so a slow client stops us here.
    private const int BytesPerFlush = 64 * 1024;

    /// <summary>
    /// GET /bytes/{n}: n bytes of <see cref="BytePattern"/>, written into the transport's own buffers.
    /// </summary>
    public static async Task SendPattern(long n, HttpContext context)
    {
        context.Response.ContentType = "application/octet-stream";
        context.Response.ContentLength = n;
        var writer = context.Response.BodyWriter;
        for (long offset = 0; offset < n;)
        {
            long flushAt = Math.Min(n, offset + BytesPerFlush);
            while (offset < flushAt)
            {
                var memory = writer.GetMemory();
                int count = (int)Math.Min(memory.Length, flushAt - offset);
                BytePattern.Fill(memory.Span[..count], offset);
                writer.Advance(count);
                offset += count;
            }

            var flushed = await writer.FlushAsync(context.RequestAborted);
            if (flushed.IsCompleted)
                return;
        }
    }

    /// <summary>What the client of /bytes/{n} must arrive at.</summary>
    public static string PatternHash(long n)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] block = new byte[BytesPerFlush];
        for (long offset = 0; offset < n; offset += block.Length)
        {
            int count = (int)Math.Min(block.Length, n - offset);
            BytePattern.Fill(block.AsSpan(0, count), offset);
            hash.AppendData(block, 0, count);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>POST /upload: length and SHA-256 of the body, hashed where the transport left it.</summary>
    public static async Task<Received> ReceiveAndHash(HttpRequest request, CancellationToken aborted)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        long length = 0;
        var reader = request.BodyReader;
        while (true)
        {
            var result = await reader.ReadAsync(aborted);
            foreach (var segment in result.Buffer)
                hash.AppendData(segment.Span);
            length += result.Buffer.Length;
            reader.AdvanceTo(result.Buffer.End);
            if (result.IsCompleted)
                return new Received(length, Convert.ToHexStringLower(hash.GetHashAndReset()));
        }
    }
}
