using System.Text;
using HelloWeb;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Options;

// An ordinary minimal-API app. UseXdpTransport below is the one line that moves it from kernel sockets to AF_XDP; the
// rest is the app, and the switches that demo, tests and benchmarks want.
return Switches.Parse(args, Serve);

static async Task<int> Serve(Switches switches, CancellationToken cancellation)
{
    // Before the host is built, so that no measurement is missed.
    using var counters = new TransportCounters();

    var builder =
        WebApplication.CreateBuilder(new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory });

    builder.Logging.ClearProviders().AddSimpleConsole(console => console.SingleLine = true);
    builder.Logging.SetMinimumLevel(switches.LogLevel)
        .AddFilter("Kestrel.Transport.Xdp", Lower(switches.LogLevel, LogLevel.Information))
        // A failed start is told below, in one line.
        .AddFilter("Microsoft.Extensions.Hosting.Internal.Host", LogLevel.None);

    builder.WebHost.ConfigureKestrel(kestrel => switches.Listen(kestrel));

    if (switches.OnXdp)
    {
        builder.WebHost.UseXdpTransport(xdp =>
        {
            // What has no switch comes from configuration, for instance Kestrel__Xdp__AttachMode=Generic in the
            // environment.
            foreach (string name in switches.Interfaces)
                xdp.Interfaces.Add(name);
            xdp.Required |= switches.Required;
            if (switches.Inline)
                xdp.UnsafePreferInlineScheduling = true;
        });
    }
    else
    {
        builder.WebHost.UseSockets(sockets =>
        {
            sockets.UnsafePreferInlineScheduling = switches.Inline;
            if (switches.CongestionControl is { } algorithm)
            {
                sockets.CreateBoundListenSocket = endPoint =>
                {
                    var socket = SocketTransportOptions.CreateDefaultBoundListenSocket(endPoint);
                    // IPPROTO_TCP, TCP_CONGESTION; accepted sockets inherit it.
                    socket.SetRawSocketOption(6, 13, Encoding.ASCII.GetBytes(algorithm));
                    return socket;
                };
            }
        });
    }

    var app = builder.Build();

    app.UseWhen(context => context.Request.Path.StartsWithSegments("/ws"), branch => branch.UseWebSockets());

    app.MapGet("/", (HttpContext context) =>
    {
        string page = Page.Render(ConnectionFacts.Of(context, switches.OnXdp), counters.Snapshot());
        return Results.Text(page, "text/html; charset=utf-8");
    });
    app.MapGet("/plaintext", () => "Hello, World!");
    app.MapGet("/json", () => new { message = "Hello, World!" });
    app.MapGet("/json/items", () => Item.Some);
    app.MapGet("/bytes/{n:long:min(0)}", Transfers.SendPattern);
    app.MapGet("/bytes/{n:long:min(0)}/sha256", (long n) => new { length = n, sha256 = Transfers.PatternHash(n) });
    app.MapPost("/upload", Transfers.ReceiveAndHash);
    app.MapPost("/upload/small", Transfers.ReceiveAndHash).WithMetadata(new RequestSizeLimitAttribute(1_000_000));
    app.MapGet("/sse", Streams.ServerSentEvents);
    app.Map("/ws", Streams.Echo);
    app.MapGet("/delay/{milliseconds:int:range(0,60000)}", Neighbours.Delay);
    app.MapGet("/spin/{milliseconds:int:range(0,1000)}", Neighbours.Spin);
    app.MapPost("/pool/{tasks:int:range(0,10000)}", Neighbours.FillPool);
    app.MapGet("/connection", (HttpContext context) => ConnectionFacts.Of(context, switches.OnXdp));
    app.MapGet("/allocated", () => $"{GC.GetTotalAllocatedBytes(precise: true)}");
    app.MapGet("/counters", () => counters.Snapshot());
    app.MapGet("/counters.txt", () =>
        string.Concat(counters.Snapshot().Select(counter => $"{counter.Key} {counter.Value}\n")));

    if (switches.AllowShutdown)
    {
        app.MapPost("/shutdown-after/{n:long:min(0)}", async (long n, HttpContext context) =>
        {
            await Transfers.SendPattern(n, context);
            await context.Response.BodyWriter.FlushAsync();
            app.Lifetime.StopApplication();
        });
        app.MapPost("/exit-after/{n:long:min(0)}", async (long n, HttpContext context) =>
        {
            await Transfers.SendPattern(n, context);
            await context.Response.CompleteAsync();
            new Thread(() => Environment.Exit(0)).Start();
        });
        app.MapPost("/hang", () =>
        {
            Console.WriteLine("HelloWeb hangs");
            Thread.Sleep(Timeout.Infinite);
        });
        app.MapPost("/crash", () => new Thread(() => throw new InvalidOperationException("asked for")).Start());
    }

    try
    {
        await app.StartAsync(cancellation);
    }
    catch (Exception e) when (e is IOException or OptionsValidationException)
    {
        Console.Error.WriteLine($"HelloWeb: {e.Message}");
        await app.DisposeAsync();
        return 1;
    }

    var addresses =
        app.Services.GetRequiredService<IServer>().Features.GetRequiredFeature<IServerAddressesFeature>().Addresses;
    Console.WriteLine($"HelloWeb ready ({(switches.OnXdp ? "xdp" : "sockets")}): {string.Join(" ", addresses)}");
    await app.WaitForShutdownAsync(cancellation);
    await app.DisposeAsync();
    return 0;
}

static LogLevel Lower(LogLevel left, LogLevel right) => left < right ? left : right;
