using Kestrel.Transport.Xdp.Internal.Logging;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Kestrel.Transport.Xdp.Internal.Listeners;

/// <summary>
/// Looks, once the server has started, whether there was an endpoint for the transport at all. Before that nobody
/// knows: the server offers its endpoints one by one.
/// </summary>
internal sealed class StartCheck(
    EndpointTally endpoints, IOptions<XdpTransportOptions> options, ILoggerFactory loggers) : IHostedLifecycleService
{
    /// <exception cref="XdpUnavailableException">There was none, and it is required.</exception>
    public Task StartedAsync(CancellationToken cancellationToken)
    {
        if (endpoints.WhyNothing is not { } reason)
            return Task.CompletedTask;
        if (options.Value.Required)
        {
            throw new XdpUnavailableException(
                $"AF_XDP serves nothing, and is required (XdpTransportOptions.Required): {reason}.");
        }
        TransportLog.NothingServed(loggers.CreateLogger(TransportLog.Category), reason);
        return Task.CompletedTask;
    }

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;
}
