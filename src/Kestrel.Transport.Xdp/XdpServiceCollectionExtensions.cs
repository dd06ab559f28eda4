using System.Diagnostics.Metrics;
using Kestrel.Transport.Xdp;
using Kestrel.Transport.Xdp.Internal.Listeners;
using Kestrel.Transport.Xdp.Internal.Options;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Turns the AF_XDP transport on where there is no web host builder.</summary>
public static class XdpServiceCollectionExtensions
{
    /// <summary>
    /// Adds the AF_XDP transport, and the socket transport before it where it is missing. May be called more than once.
    /// </summary>
    /// <param name="services">The services.</param>
    /// <param name="configureOptions">Runs after the configuration section <c>Kestrel:Xdp</c> was read.</param>
    /// <returns><paramref name="services"/>.</returns>
    public static IServiceCollection AddXdpTransport(
        this IServiceCollection services, Action<XdpTransportOptions>? configureOptions = null)
    {
        ArgumentNullException.ThrowIfNull(services);

        services.TryAddEnumerable(ServiceDescriptor.Singleton<IConnectionListenerFactory, SocketTransportFactory>());
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IConnectionListenerFactory, XdpTransportFactory>(
            static provider => new XdpTransportFactory(
                provider.GetRequiredService<IOptions<XdpTransportOptions>>(),
                provider.GetRequiredService<ILoggerFactory>(),
                provider.GetService<IOptions<SocketTransportOptions>>(),
                provider.GetService<IMeterFactory>(),
                provider.GetService<IMemoryPoolFactory<byte>>(),
                provider.GetRequiredService<EndpointTally>(),
                new SourceReload(provider))));
        services.TryAddSingleton<EndpointTally>();
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IHostedService, StartCheck>());

        services.AddOptions();
        services.TryAddEnumerable(
            ServiceDescriptor.Singleton<IConfigureOptions<XdpTransportOptions>, XdpOptionsBinder>());
        services.TryAddEnumerable(
            ServiceDescriptor.Singleton<IValidateOptions<XdpTransportOptions>, XdpOptionsValidator>());
        if (configureOptions is not null)
            services.Configure(configureOptions);
        return services;
    }
}
