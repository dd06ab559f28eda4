using System.Buffers;
using System.Net.ServerSentEvents;
using System.Net.WebSockets;
using System.Runtime.CompilerServices;

namespace HelloWeb;

internal static class Streams
{
    /// <summary>
    /// GET /sse?count=…&amp;interval=…: numbered events, one each interval (milliseconds). Without a count they go on
    /// until the app stops.
    /// </summary>
    public static IResult ServerSentEvents(
        IHostApplicationLifetime lifetime, CancellationToken aborted, long count = long.MaxValue, int interval = 1000)
    {
        return TypedResults.ServerSentEvents(Ticks(aborted));

        async IAsyncEnumerable<SseItem<string>> Ticks([EnumeratorCancellation] CancellationToken cancellation)
        {
            using var end = CancellationTokenSource.CreateLinkedTokenSource(cancellation, lifetime.ApplicationStopping);
            for (long i = 0; i < count; i++)
            {
                if (i > 0 && interval > 0)
                    await Task.Delay(interval, end.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                if (end.IsCancellationRequested)
                    yield break;
                yield return new SseItem<string>($"{i}", "tick");
            }
        }
    }

    /// <summary>/ws: every frame goes back as it came, until the client closes.</summary>
    public static async Task Echo(HttpContext context)
    {
        if (!context.WebSockets.IsWebSocketRequest)
        {
            context.Response.StatusCode = StatusCodes.Status400BadRequest;
            return;
        }

        using var socket = await context.WebSockets.AcceptWebSocketAsync();
        byte[] buffer = ArrayPool<byte>.Shared.Rent(16 * 1024);
        try
        {
            while (true)
            {
                var received = await socket.ReceiveAsync(buffer.AsMemory(), context.RequestAborted);
                if (received.MessageType == WebSocketMessageType.Close)
                {
                    await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, null, context.RequestAborted);
                    return;
                }

                await socket.SendAsync(
                    buffer.AsMemory(0, received.Count), received.MessageType, received.EndOfMessage,
                    context.RequestAborted);
            }
        }
        catch (WebSocketException e) when (e.WebSocketErrorCode == WebSocketError.ConnectionClosedPrematurely)
        {
            // The client left without a word.
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }
}
