using System.Net;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;

namespace Kestrel.Transport.Xdp.Internal.Options;

/// <summary>
/// The options as a host's transport uses them. What the socket transport's options may fill in is fixed at start. What
/// belongs to an interface is fixed when the host has its first endpoint there.
/// </summary>
internal sealed class TransportSettings
{
    internal TransportSettings(XdpTransportOptions options, SocketTransportOptions sockets)
    {
        Options = options;
        Sockets = sockets;
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

    /// <summary>The connections that an endpoint's listener holds for the application.</summary>
    internal int Backlog => Options.Backlog ?? Sockets.Backlog;

    /// <summary>Who may connect to the host's endpoints.</summary>
    internal SourceFilter Sources { get; }

    /// <summary>Bytes; 0 is unlimited.</summary>
    internal long MaxReadBufferSize { get; }

    /// <summary>Bytes; 0 is unlimited.</summary>
    internal long MaxWriteBufferSize { get; }

    /// <summary>What has switched the transport off, as the user wrote it; null when nothing has.</summary>
    internal string? SwitchedOffBy { get; }

    /// <summary>
    /// What the host wants an interface to be made with, where the administrator has set this. An interface that it
    /// shares may have another host's.
    /// </summary>
    internal InterfaceSettings ForInterface(TcpSysctls sysctls) => InterfaceSettings.From(Options, Sockets, sysctls);

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
