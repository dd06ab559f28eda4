using System.Net;
using Microsoft.AspNetCore.Connections;
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
        Sources = new SourceFilter(SourceLists.From(options));
        MaxReadBufferSize = options.MaxReadBufferSize ?? sockets.MaxReadBufferSize ?? 0;
        MaxWriteBufferSize = options.MaxWriteBufferSize ?? sockets.MaxWriteBufferSize ?? 0;
        SwitchedOffBy =
            EnvironmentSwitches.IsOff ? $"{EnvironmentSwitches.Transport}={EnvironmentSwitches.Value}"
            : !options.Enabled ? $"{nameof(options.Enabled)}=false"
            : null;
    }

    /// <summary>For what concerns the host alone.</summary>
    internal XdpTransportOptions Options { get; }

    /// <summary>The application's own object: the companion's connections use it as it is.</summary>
    internal SocketTransportOptions Sockets { get; }

    /// <summary>
    /// What the host wants its interfaces to be made with. An interface that it shares may have another host's.
    /// </summary>
    internal InterfaceSettings Interface { get; }

    /// <summary>Who may connect to the host's endpoints.</summary>
    internal SourceFilter Sources { get; }

    /// <summary>Bytes; 0 is unlimited.</summary>
    internal long MaxReadBufferSize { get; }

    /// <summary>Bytes; 0 is unlimited.</summary>
    internal long MaxWriteBufferSize { get; }

    /// <summary>What has switched the transport off, as the user wrote it; null when nothing has.</summary>
    internal string? SwitchedOffBy { get; }

    /// <summary>
    /// Why an endpoint is none for AF_XDP and left to sockets; null when it is one. The type is looked at first: other
    /// kinds of endpoint, such as FileHandleEndPoint, throw when they are asked for their address family.
    /// </summary>
    internal string? WhyNot(EndPoint endpoint) =>
        SwitchedOffBy ?? (
            endpoint is FileHandleEndPoint ? "it is a socket that was handed over"
            : endpoint.GetType() != typeof(IPEndPoint) || endpoint is not IPEndPoint ip ? "it is no IP endpoint"
            : IPAddress.IsLoopback(ip.Address) ? "it is a loopback address, which no interface receives packets for"
            : Options.EndpointFilter?.Invoke(ip) == false ? "EndpointFilter leaves it out"
            : null);
}
