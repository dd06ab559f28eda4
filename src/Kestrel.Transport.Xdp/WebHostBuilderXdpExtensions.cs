using Kestrel.Transport.Xdp;
using Microsoft.Extensions.DependencyInjection;

namespace Microsoft.AspNetCore.Hosting;

/// <summary>Turns the AF_XDP transport on.</summary>
public static class WebHostBuilderXdpExtensions
{
    /// <summary>
    /// Serves IP endpoints over AF_XDP, with sockets for what does not come that way. Settings come from the
    /// configuration section <c>Kestrel:Xdp</c>.
    /// </summary>
    /// <param name="hostBuilder">The web host builder.</param>
    /// <returns><paramref name="hostBuilder"/>.</returns>
    public static IWebHostBuilder UseXdpTransport(this IWebHostBuilder hostBuilder)
    {
        ArgumentNullException.ThrowIfNull(hostBuilder);
        // Sockets first: they register only while there is no other transport, and Kestrel asks the last one first.
        return hostBuilder.UseSockets().ConfigureServices(static services => services.AddXdpTransport());
    }

    /// <inheritdoc cref="UseXdpTransport(IWebHostBuilder)"/>
    /// <param name="hostBuilder">The web host builder.</param>
    /// <param name="configureOptions">Runs after the configuration section was read.</param>
    public static IWebHostBuilder UseXdpTransport(
        this IWebHostBuilder hostBuilder, Action<XdpTransportOptions> configureOptions)
    {
        ArgumentNullException.ThrowIfNull(hostBuilder);
        ArgumentNullException.ThrowIfNull(configureOptions);
        return hostBuilder.UseSockets().ConfigureServices(services => services.AddXdpTransport(configureOptions));
    }
}
