using System.Net;
using Kestrel.Transport.Xdp;

namespace HelloWeb;

/// <summary>What carries the connection a request came over.</summary>
/// <param name="Transport"><c>xdp</c> or <c>sockets</c>.</param>
/// <param name="Companion">True where the app is on XDP and this connection came to its companion socket.</param>
/// <param name="Interface">Interface the connection came in on; null on sockets.</param>
/// <param name="Queue">Its NIC queue; null on sockets.</param>
/// <param name="BindMode">How that queue's AF_XDP socket is bound, e.g. <c>copy</c>; null on sockets.</param>
internal sealed record ConnectionFacts(
    string Transport, bool Companion, string? Interface, int? Queue, string? BindMode, string Local, string Remote,
    string Protocol, string Id)
{
    public static ConnectionFacts Of(HttpContext context, bool onXdp)
    {
        var xdp = context.Features.Get<IXdpConnectionFeature>();
        var connection = context.Connection;
        return new ConnectionFacts(
            xdp is null ? "sockets" : "xdp",
            onXdp && xdp is null,
            xdp?.InterfaceName,
            xdp?.QueueId,
            xdp?.BindMode,
            EndPoint(connection.LocalIpAddress, connection.LocalPort),
            EndPoint(connection.RemoteIpAddress, connection.RemotePort),
            context.Request.Protocol,
            connection.Id);
    }

    private static string EndPoint(IPAddress? address, int port) =>
        address is null ? "unknown" : new IPEndPoint(address, port).ToString();
}
