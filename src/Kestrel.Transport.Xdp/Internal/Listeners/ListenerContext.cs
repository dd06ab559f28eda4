using System.Buffers;
using Kestrel.Transport.Xdp.Internal.Diagnostics;
using Kestrel.Transport.Xdp.Internal.Options;
using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Internal.Listeners;

/// <summary>What all listeners of a host have in common.</summary>
/// <param name="Settings">The host's.</param>
/// <param name="Loggers">For the companion's connections, which log as the socket transport's do.</param>
/// <param name="Logger">For everything else.</param>
/// <param name="Pool">What applications are told to rent memory from.</param>
/// <param name="Metrics">Null for none.</param>
internal sealed record ListenerContext(
    TransportSettings Settings, ILoggerFactory Loggers, ILogger Logger, MemoryPool<byte> Pool, XdpMetrics? Metrics);
