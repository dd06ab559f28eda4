using System.Net;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;

namespace Kestrel.Transport.Xdp.Internal.Options;

/// <summary>
/// The options as a host's transport uses them. What belongs to interfaces, and what the socket transport's options may
/// fill in, is fixed at start.
/// </summary>
internal sealed class TransportSettings
{
    internal TransportSettings(XdpTransportOptions options, SocketTransportOptions sockets)
    {
        Options = options;
        Sockets = sockets;
        Interface = InterfaceSettings.From(options, sockets);
        MaxReadBufferSize = options.MaxReadBufferSize ?? sockets.MaxReadBufferSize ?? 0;
        MaxWriteBufferSize = options.MaxWriteBufferSize ?? sockets.MaxWriteBufferSize ?? 0;
    }

    /// <summary>For what concerns the host alone.</summary>
    internal XdpTransportOptions Options { get; }

    /// <summary>The application's own object: the companion's connections use it as it is.</summary>
    internal SocketTransportOptions Sockets { get; }

    /// <summary>
    /// What the host wants its interfaces to be made with. An interface that it shares may have another host's.
    /// </summary>
    internal InterfaceSettings Interface { get; }

    /// <summary>Bytes; 0 is unlimited.</summary>
    internal long MaxReadBufferSize { get; }

    /// <summary>Bytes; 0 is unlimited.</summary>
    internal long MaxWriteBufferSize { get; }

    /// <summary>
    /// Does this transport bind the endpoint? It binds IP endpoints that are not loopback and that the filter lets
    /// through. Everything else is the socket transport's. The type is looked at first: other kinds of endpoint, such
    /// as FileHandleEndPoint, throw when they are asked for their address family.
    /// </summary>
    internal bool Serves(EndPoint endpoint) =>
        !EnvironmentSwitches.TransportIsOff
        && endpoint.GetType() == typeof(IPEndPoint) && endpoint is IPEndPoint ip
        && !IPAddress.IsLoopback(ip.Address)
        && Options.EndpointFilter?.Invoke(ip) != false;
}
