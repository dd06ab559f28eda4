using System.CommandLine;
using System.Net;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace HelloWeb;

/// <summary>The command line.</summary>
internal sealed record Switches
{
    private const int DefaultHttpsPort = 8443;

    public required bool OnXdp { get; init; }
    public required string[] Interfaces { get; init; }
    public required bool Required { get; init; }
    public required bool Inline { get; init; }
    public required BindingAddress[] Urls { get; init; }

    /// <summary>Port of the https endpoint; null without one.</summary>
    public required int? HttpsPort { get; init; }

    /// <summary>Port of the cleartext HTTP/2 endpoint; null without one.</summary>
    public required int? H2cPort { get; init; }

    /// <summary>What kernel sockets send by, for instance <c>cubic</c>; null leaves it to the host.</summary>
    public required string? CongestionControl { get; init; }

    public required bool AllowShutdown { get; init; }
    public required LogLevel LogLevel { get; init; }

    /// <returns>The exit code of <paramref name="run"/>, of help, or of a command line that makes no sense.</returns>
    public static int Parse(string[] args, Func<Switches, CancellationToken, Task<int>> run)
    {
        var transport = new Option<string>("--transport")
        {
            Description = "what carries the connections",
            DefaultValueFactory = _ => "xdp",
        };
        transport.AcceptOnlyFromAmong("xdp", "sockets");
        var interfaces = new Option<string[]>("--interface")
        {
            Description = "a network interface to serve over AF_XDP; may be repeated",
        };
        var required = new Option<bool>("--required")
        {
            Description = "refuse to start where XDP cannot be set up, instead of serving by sockets",
        };
        var inline = new Option<bool>("--inline")
        {
            Description = "run request code on the transport's threads (UnsafePreferInlineScheduling)",
        };
        var urls = new Option<string>("--urls")
        {
            Description = "HTTP/1.1 endpoints, separated by ;",
            DefaultValueFactory = _ => "http://*:8080",
        };
        var https = new Option<int?>("--https")
        {
            Description = $"also an https endpoint on PORT (default {DefaultHttpsPort}), HTTP/1.1 and HTTP/2, "
                + "its certificate made at start",
            HelpName = "PORT",
            Arity = ArgumentArity.ZeroOrOne,
            CustomParser = result => result.Tokens is [var port] ? Port(port.Value, result.AddError) : DefaultHttpsPort,
        };
        var h2c = new Option<int?>("--h2c-port")
        {
            Description = "also a cleartext HTTP/2 endpoint (prior knowledge) on PORT",
            HelpName = "PORT",
            CustomParser = result => Port(result.Tokens[0].Value, result.AddError),
        };
        var congestionControl = new Option<string?>("--congestion-control")
        {
            Description = "with --transport sockets: the kernel's congestion control, "
                + "e.g. cubic, which is what the XDP transport has",
            HelpName = "NAME",
        };
        var allowShutdown = new Option<bool>("--allow-shutdown")
        {
            Description = "map POST /shutdown-after/{n}: send n bytes, flush, stop the app; and /hang: never answer",
        };
        var logLevel = new Option<LogLevel>("--log-level")
        {
            Description = "least severe level to log",
            DefaultValueFactory = _ => LogLevel.Warning,
        };

        urls.Validators.Add(result =>
        {
            foreach (string url in Split(result.GetValueOrDefault<string>()))
                if (!IsAddress(url))
                    result.AddError($"'{url}' is not an address like http://*:8080");
        });

        var root = new RootCommand("A web app served by Kestrel over AF_XDP.")
        {
            transport, interfaces, required, inline, urls, https, h2c, congestionControl, allowShutdown, logLevel,
        };
        root.SetAction((parsed, cancellation) => run(
            new Switches
            {
                OnXdp = parsed.GetValue(transport) == "xdp",
                Interfaces = parsed.GetValue(interfaces) ?? [],
                Required = parsed.GetValue(required),
                Inline = parsed.GetValue(inline),
                Urls = [.. Split(parsed.GetValue(urls)).Select(BindingAddress.Parse)],
                HttpsPort = parsed.GetValue(https),
                H2cPort = parsed.GetValue(h2c),
                CongestionControl = parsed.GetValue(congestionControl),
                AllowShutdown = parsed.GetValue(allowShutdown),
                LogLevel = parsed.GetValue(logLevel),
            },
            cancellation));

        // The host handles SIGINT and SIGTERM, and a graceful stop takes as long as it takes.
        return root.Parse(args).InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null })
            .GetAwaiter().GetResult();
    }

    public void Listen(KestrelServerOptions kestrel)
    {
        // An upload may be as long as it likes.
        kestrel.Limits.MaxRequestBodySize = null;

        foreach (var url in Urls)
        {
            bool https = url.Scheme == "https";
            ListenOn(kestrel, url.Host, url.Port, endpoint => Configure(endpoint, https));
        }

        if (HttpsPort is { } httpsPort)
            kestrel.ListenAnyIP(httpsPort, endpoint => Configure(endpoint, https: true));
        if (H2cPort is { } h2cPort)
            kestrel.ListenAnyIP(h2cPort, endpoint => endpoint.Protocols = HttpProtocols.Http2);

        static void Configure(ListenOptions endpoint, bool https)
        {
            endpoint.Protocols = https ? HttpProtocols.Http1AndHttp2 : HttpProtocols.Http1;
            if (https)
                endpoint.UseHttps(Certificate.SelfSigned());
        }
    }

    private static void ListenOn(KestrelServerOptions kestrel, string host, int port, Action<ListenOptions> configure)
    {
        if (IPAddress.TryParse(host, out var address))
            kestrel.Listen(address, port, configure);
        else if (host.Equals("localhost", StringComparison.OrdinalIgnoreCase))
            kestrel.ListenLocalhost(port, configure);
        else
            kestrel.ListenAnyIP(port, configure);
    }

    private static string[] Split(string? urls) =>
        (urls ?? "").Split(';', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

    private static bool IsAddress(string url)
    {
        try
        {
            return BindingAddress.Parse(url) is { Scheme: "http" or "https", IsUnixPipe: false, IsNamedPipe: false };
        }
        catch (FormatException)
        {
            return false;
        }
    }

    private static int? Port(string text, Action<string> error)
    {
        if (ushort.TryParse(text, out ushort port))
            return port;
        error($"'{text}' is not a port");
        return null;
    }
}
