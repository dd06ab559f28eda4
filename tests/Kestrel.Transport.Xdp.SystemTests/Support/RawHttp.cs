using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>HTTP/1.1 by hand on one socket, for tests that care what is sent when.</summary>
internal sealed class RawHttp(Socket socket) : IDisposable
{
    private readonly byte[] _buffer = new byte[64 * 1024];
    private int _start, _end;

    internal Socket Socket => socket;

    internal static async Task<RawHttp> ConnectAsync(
        Namespace from, IPEndPoint server, Action<Socket>? prepare = null) =>
        new(await from.ConnectAsync(server, prepare: prepare));

    internal static string Get(string path) => $"GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n";

    internal async Task WriteAsync(string text) => await WriteAsync(Encoding.ASCII.GetBytes(text));

    internal async Task WriteAsync(ReadOnlyMemory<byte> bytes)
    {
        while (!bytes.IsEmpty)
            bytes = bytes[await socket.SendAsync(bytes)..];
    }

    /// <returns>Length of the body that follows.</returns>
    internal async Task<long> ReadHeadAsync(string expectedStatus = "200")
    {
        string head = "";
        while (!head.EndsWith("\r\n\r\n", StringComparison.Ordinal))
        {
            if (_start == _end && !await FillAsync())
                throw new EndOfStreamException($"The connection ended within a response's head: '{head}'.");
            int end = _buffer.AsSpan(_start, _end - _start).IndexOf((byte)'\n');
            int count = end >= 0 ? end + 1 : _end - _start;
            head += Encoding.ASCII.GetString(_buffer, _start, count);
            _start += count;
        }
        Assert.StartsWith($"HTTP/1.1 {expectedStatus} ", head, StringComparison.Ordinal);
        const string Field = "Content-Length: ";
        string? length = head.Split("\r\n")
            .FirstOrDefault(line => line.StartsWith(Field, StringComparison.OrdinalIgnoreCase));
        return length is null ? 0 : long.Parse(length.AsSpan(Field.Length), CultureInfo.InvariantCulture);
    }

    /// <summary>Some bytes of the body; none at the connection's end.</summary>
    internal async Task<ReadOnlyMemory<byte>> ReadSomeAsync(int atMost = int.MaxValue)
    {
        if (_start == _end && !await FillAsync(atMost))
            return default;
        int count = Math.Min(atMost, _end - _start);
        _start += count;
        return _buffer.AsMemory(_start - count, count);
    }

    /// <summary>What has come of the next response, without taking it; none at the connection's end.</summary>
    internal async Task<ReadOnlyMemory<byte>> PeekAsync() => _start != _end || await FillAsync()
        ? _buffer.AsMemory(_start, _end - _start)
        : default;

    internal async Task<byte[]> ReadBodyAsync(long length)
    {
        byte[] body = new byte[length];
        for (int at = 0; at < body.Length;)
        {
            ReadOnlyMemory<byte> some = await ReadSomeAsync(body.Length - at);
            if (some.IsEmpty)
                throw new EndOfStreamException($"The connection ended after {at} of {length} bytes of a body.");
            some.CopyTo(body.AsMemory(at));
            at += some.Length;
        }
        return body;
    }

    /// <summary>Compares a body of /bytes with what it must be, from an offset on, and keeps nothing of it.</summary>
    internal async Task ReadPatternAsync(long from, long length)
    {
        for (long at = from; at < length;)
        {
            ReadOnlyMemory<byte> some = await ReadSomeAsync((int)Math.Min(int.MaxValue, length - at));
            if (some.IsEmpty)
                throw new EndOfStreamException($"The connection ended after {at} of {length} bytes of a body.");
            Pattern.AssertMatches(some.Span, at);
            at += some.Length;
        }
    }

    internal async Task<byte[]> ReadResponseAsync() => await ReadBodyAsync(await ReadHeadAsync());

    internal async Task<ConnectionFacts> FactsAsync()
    {
        await WriteAsync(Get("/connection"));
        await ReadHeadAsync();
        return ConnectionFacts.Parse(Encoding.UTF8.GetString(await ReadChunkedAsync()));
    }

    /// <summary>A body in chunks, to its end.</summary>
    internal async Task<byte[]> ReadChunkedAsync()
    {
        var body = new List<byte>();
        while (true)
        {
            int length = int.Parse(await ReadLineAsync(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            body.AddRange(await ReadBodyAsync(length));
            Assert.Equal("", await ReadLineAsync());
            if (length == 0)
                return [.. body];
        }
    }

    private async Task<string> ReadLineAsync()
    {
        var line = new StringBuilder();
        while (line.Length < 2 || line[^1] != '\n')
            line.Append((char)(await ReadBodyAsync(1))[0]);
        return line.ToString(0, line.Length - 2);
    }

    private async Task<bool> FillAsync(int atMost = int.MaxValue)
    {
        _start = 0;
        _end = await socket.ReceiveAsync(_buffer.AsMemory(0, Math.Min(atMost, _buffer.Length)));
        return _end > 0;
    }

    public void Dispose() => socket.Dispose();
}
