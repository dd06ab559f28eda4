using System.Buffers;
using System.Net;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Threading.Channels;
using Kestrel.Transport.Xdp.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Tests.Connections;

/// <summary>Kestrel itself on these connections: HTTP/1.1 and HTTP/2, in the clear and over TLS.</summary>
public sealed class KestrelTests
{
    private const int HttpPort = 80;
    private const int HttpsPort = 443;

    public static TheoryData<bool, bool, string> Servers
    {
        get
        {
            var data = new TheoryData<bool, bool, string>();
            foreach (bool frames in new[] { true, false })
            {
                foreach (bool inline in new[] { false, true })
                {
                    data.Add(frames, inline, "http/1.1");
                    data.Add(frames, inline, "https/1.1");
                    data.Add(frames, inline, "https/2.0");
                }
            }
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Servers))]
    public async Task Requests_OfAllShapes_AreAnswered(bool frames, bool inline, string protocol)
    {
        await using Server server = await Server.StartAsync(frames, inline);
        string[] parts = protocol.Split('/');
        using var client = new HttpClient(new SocketsHttpHandler
        {
            ConnectCallback = (context, _) => ValueTask.FromResult(server.Connect(context.DnsEndPoint.Port)),
            SslOptions = new SslClientAuthenticationOptions
            {
                RemoteCertificateValidationCallback = (_, _, _, _) => true,
            },
        })
        {
            BaseAddress = new Uri($"{parts[0]}://server/"),
            DefaultRequestVersion = Version.Parse(parts[1]),
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Timeout = TimeSpan.FromSeconds(20),
        };

        for (int i = 0; i < 20; i++)
            Assert.Equal("hello", await client.GetStringAsync("/"));
        Assert.Equal(Server.Big, await client.GetByteArrayAsync("/big"));
        Assert.Equal(Server.Big[..60000], await client.GetByteArrayAsync("/memory"));
        Assert.Equal("0123456789", await client.GetStringAsync("/pieces"));
        byte[] body = new byte[2_000_000];
        new Random(5).NextBytes(body);
        using HttpResponseMessage echo = await client.PostAsync("/echo", new ByteArrayContent(body));
        Assert.Equal(body, await echo.Content.ReadAsByteArrayAsync());
        using HttpResponseMessage length = await client.PostAsync("/length", new StreamContent(new MemoryStream(body)));
        Assert.Equal("2000000", await length.Content.ReadAsStringAsync());
        Task<string>[] many = [.. Enumerable.Range(0, 30).Select(_ => client.GetStringAsync("/"))];
        Assert.All(await Task.WhenAll(many), text => Assert.Equal("hello", text));
        await Assert.ThrowsAnyAsync<HttpRequestException>(() => client.GetStringAsync("/abort"));
        Assert.Equal("hello", await client.GetStringAsync("/"));
    }

    [Fact]
    public async Task MinimalResponse_InLockStep_IsOneSegment()
    {
        await using Server server = await Server.StartAsync(frames: true, inline: true);
        FakePeer peer = server.ConnectPeer(HttpPort);
        await using Stream stream = peer.AsStream();
        byte[] buffer = new byte[1000];
        // Kestrel's first read of a connection is on the pool: one request, to be past it.
        for (int i = 0; i < 2; i++)
        {
            peer.WrittenBlocks.Clear();
            peer.Send("GET /pieces HTTP/1.1\r\nHost: server\r\n\r\n"u8);
            int count = 0;
            while (!buffer.AsSpan(0, count).EndsWith("0\r\n\r\n"u8))
                count += await peer.ReceiveAsync(buffer.AsMemory(count));
        }
        // What was flushed inside one turn leaves as one segment.
        Assert.Single(peer.WrittenBlocks);
    }

    private sealed class Server(WebApplication app, FakeQueue queue, ListenerFactory factory) : IAsyncDisposable
    {
        public static readonly byte[] Big = Random(3_000_000);

        public static async Task<Server> StartAsync(bool frames, bool inline)
        {
            var queue = new FakeQueue(frames: 2048, receiveReserve: 256);
            queue.StartWorker();
            var factory = new ListenerFactory(queue, frames, inline);
            WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
            builder.Logging.ClearProviders();
            builder.Services.AddSingleton<IConnectionListenerFactory>(factory);
            X509Certificate2 certificate = Certificate();
            builder.WebHost.UseKestrelHttpsConfiguration();
            builder.WebHost.ConfigureKestrel(options =>
            {
                options.Listen(IPAddress.Loopback, HttpPort);
                options.Listen(IPAddress.Loopback, HttpsPort, listen => listen.UseHttps(certificate));
            });
            WebApplication app = builder.Build();
            app.MapGet("/", () => "hello");
            app.MapGet("/big", (HttpContext context) => context.Response.Body.WriteAsync(Big).AsTask());
            app.MapGet("/memory", async (HttpContext context) =>
            {
                Big.AsSpan(0, 60000).CopyTo(context.Response.BodyWriter.GetSpan(60000));
                context.Response.BodyWriter.Advance(60000);
                await context.Response.BodyWriter.FlushAsync();
            });
            app.MapGet("/pieces", async (HttpContext context) =>
            {
                // Chunks by GetMemory with small hints, then without: the same memory is expected.
                for (int i = 0; i < 10; i++)
                {
                    context.Response.BodyWriter.GetMemory(1);
                    context.Response.BodyWriter.GetMemory().Span[0] = (byte)('0' + i);
                    context.Response.BodyWriter.Advance(1);
                }
                await context.Response.BodyWriter.FlushAsync();
            });
            app.MapPost("/echo", async (HttpContext context) =>
            {
                // First all in, then all out: an HTTP/2 client does not read before it has sent the whole body.
                var body = new MemoryStream();
                await context.Request.BodyReader.CopyToAsync(body);
                await context.Response.Body.WriteAsync(body.GetBuffer().AsMemory(0, (int)body.Length));
            });
            app.MapPost("/length", async (HttpContext context) =>
            {
                System.IO.Pipelines.ReadResult result;
                while (!(result = await context.Request.BodyReader.ReadAsync()).IsCompleted)
                    context.Request.BodyReader.AdvanceTo(result.Buffer.Start, result.Buffer.End);
                string text = $"{result.Buffer.Length}";
                context.Request.BodyReader.AdvanceTo(result.Buffer.End);
                await context.Response.WriteAsync(text);
            });
            app.MapGet("/abort", (HttpContext context) => context.Abort());
            await app.StartAsync();
            return new Server(app, queue, factory);
        }

        public Stream Connect(int port) => ConnectPeer(port).AsStream();

        public FakePeer ConnectPeer(int port) => factory.Connect(port);

        public async ValueTask DisposeAsync()
        {
            factory.FinishClients();
            await app.StopAsync();
            await app.DisposeAsync();
            await factory.ResetClientsAsync();
            queue.Dispose();
            Assert.Empty(queue.Logger.AboveDebug);
            queue.AssertAllHome();
        }

        private static byte[] Random(int length)
        {
            byte[] bytes = new byte[length];
            new Random(length).NextBytes(bytes);
            return bytes;
        }

        private static X509Certificate2 Certificate()
        {
            using var key = RSA.Create(2048);
            var request = new CertificateRequest("CN=server", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
            using X509Certificate2 certificate =
                request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
            return X509CertificateLoader.LoadPkcs12(certificate.Export(X509ContentType.Pkcs12), null);
        }
    }

    private sealed class ListenerFactory(FakeQueue queue, bool frames, bool inline) : IConnectionListenerFactory
    {
        private readonly Dictionary<int, Channel<ConnectionContext>> _listeners = [];
        private readonly List<FakePeer> _peers = [];
        private bool _finished;

        public ValueTask<IConnectionListener> BindAsync(
            EndPoint endpoint, CancellationToken cancellationToken = default)
        {
            var channel = Channel.CreateUnbounded<ConnectionContext>();
            _listeners.Add(((IPEndPoint)endpoint).Port, channel);
            return ValueTask.FromResult<IConnectionListener>(new Listener(endpoint, channel));
        }

        public FakePeer Connect(int port)
        {
            lock (_peers)
            {
                // The client connects ahead of need, in the background.
                if (_finished)
                    throw new IOException("The server is going away.");
                FakePeer peer = queue.Connect(queue.Settings(frames, inline), frames);
                _peers.Add(peer);
                _listeners[port].Writer.TryWrite(peer.Connection);
                return peer;
            }
        }

        public void FinishClients()
        {
            lock (_peers)
                _finished = true;
            foreach (FakePeer peer in _peers)
                peer.SendFin();
        }

        public async Task ResetClientsAsync()
        {
            // What Kestrel had not accepted when it stopped.
            foreach (Channel<ConnectionContext> listener in _listeners.Values)
            {
                while (listener.Reader.TryRead(out ConnectionContext? connection))
                    await connection.DisposeAsync();
            }
            foreach (FakePeer peer in _peers)
                peer.SendReset();
        }

        private sealed class Listener(EndPoint endPoint, Channel<ConnectionContext> channel) : IConnectionListener
        {
            public EndPoint EndPoint => endPoint;

            public async ValueTask<ConnectionContext?> AcceptAsync(CancellationToken cancellationToken = default) =>
                await channel.Reader.WaitToReadAsync(cancellationToken)
                    && channel.Reader.TryRead(out ConnectionContext? connection) ? connection : null;

            public ValueTask UnbindAsync(CancellationToken cancellationToken = default)
            {
                channel.Writer.TryComplete();
                return ValueTask.CompletedTask;
            }

            public ValueTask DisposeAsync() => UnbindAsync();
        }
    }
}
