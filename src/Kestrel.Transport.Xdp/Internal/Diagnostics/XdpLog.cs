using System.Net;
using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>What the transport logs, apart from what single connections do (<see cref="XdpConnectionLog"/>). Event ids from 100.</summary>
internal static partial class XdpLog
{
    internal const string Category = "Kestrel.Transport.Xdp";

    [LoggerMessage(100, LogLevel.Information, "{EndPoint} is served over AF_XDP on {Interface} ({Modes}), and by sockets for local clients.", EventName = "Serving")]
    internal static partial void Serving(ILogger logger, IPEndPoint endPoint, string @interface, string modes);

    [LoggerMessage(101, LogLevel.Warning, "{EndPoint} is served by sockets, not by AF_XDP: {Reason}.", EventName = "FallBack")]
    internal static partial void FallBack(ILogger logger, IPEndPoint endPoint, string reason);

    [LoggerMessage(102, LogLevel.Warning, "{EndPoint} is not served by AF_XDP on {Interface}: {Reason}. What arrives there is served by sockets.", EventName = "PartialFallBack")]
    internal static partial void PartialFallBack(ILogger logger, IPEndPoint endPoint, string @interface, string reason);

    [LoggerMessage(103, LogLevel.Information, "{EndPoint} is now served over AF_XDP on {Interface} ({Modes}).", EventName = "Upgraded")]
    internal static partial void Upgraded(ILogger logger, IPEndPoint endPoint, string @interface, string modes);

    [LoggerMessage(104, LogLevel.Information, "AF_XDP is switched off by the environment (" + EnvironmentSwitches.Transport + "=off): sockets serve everything.", EventName = "SwitchedOff")]
    internal static partial void SwitchedOff(ILogger logger);

    [LoggerMessage(105, LogLevel.Warning, "Segments served over AF_XDP pass by the firewall's input rules ({Chains}). AllowedSources and DeniedSources of XdpTransportOptions stand in for rules about addresses.", EventName = "InputRules")]
    internal static partial void InputRules(ILogger logger, string chains);

    [LoggerMessage(106, LogLevel.Information, "{EndPoint} is a socket that was handed over (systemd socket activation, for instance): the socket transport serves it, not AF_XDP.", EventName = "HandedOver")]
    internal static partial void HandedOver(ILogger logger, string endPoint);

    [LoggerMessage(110, LogLevel.Warning, "{Interface} is lost: {Reason}. Its connections end; sockets serve until it is back.", EventName = "InterfaceLost")]
    internal static partial void InterfaceLost(ILogger logger, string @interface, string reason);

    [LoggerMessage(111, LogLevel.Warning, "{Interface}, queue {Queue}, has no AF_XDP socket: {Reason}. What arrives there is served by sockets.", EventName = "QueueRefused")]
    internal static partial void QueueRefused(ILogger logger, string @interface, int queue, string reason);

    [LoggerMessage(112, LogLevel.Error, "{Interface}, queue {Queue}, has ended with its connections: {Reason}. It is opened again.", EventName = "QueueFailed")]
    internal static partial void QueueFailed(ILogger logger, string @interface, int queue, string reason);

    [LoggerMessage(113, LogLevel.Critical, "{Interface}, queue {Queue}: a turn failed. This is a bug in the transport.", EventName = "TurnFailed")]
    internal static partial void TurnFailed(ILogger logger, string @interface, int queue, Exception exception);

    [LoggerMessage(114, LogLevel.Warning, "{Interface}, queue {Queue}: a turn has been running for {Duration} ms. With inline scheduling a handler blocks it, and with it every connection of the queue.", EventName = "TurnStalled")]
    internal static partial void TurnStalled(ILogger logger, string @interface, int queue, long duration);

    [LoggerMessage(115, LogLevel.Error, "{Interface}: keeping the endpoints up to date failed. It is tried again.", EventName = "ControlFailed")]
    internal static partial void ControlFailed(ILogger logger, string @interface, Exception exception);

    [LoggerMessage(116, LogLevel.Debug, "{Address} port {Port} on {Interface}: {Mode}.", EventName = "EndpointMode")]
    internal static partial void EndpointMode(ILogger logger, IPAddress address, int port, string @interface, string mode);

    [LoggerMessage(117, LogLevel.Warning, "{Interface}, queue {Queue}, is flooded with connection attempts: {PerSecond} a second are answered, with SYN cookies, and the rest are dropped.", EventName = "SynsLimited")]
    internal static partial void SynsLimited(ILogger logger, string @interface, int queue, long perSecond);

    [LoggerMessage(118, LogLevel.Warning, "{Interface} is served by another host of this process already, whose {Options} hold for this one too.", EventName = "SharedInterface")]
    internal static partial void SharedInterface(ILogger logger, string @interface, string options);

    [LoggerMessage(120, LogLevel.Debug, "A connection could not be accepted by the companion socket of {EndPoint}.", EventName = "CompanionAcceptFailed")]
    internal static partial void CompanionAcceptFailed(ILogger logger, IPEndPoint endPoint, Exception exception);

    [LoggerMessage(121, LogLevel.Error, "The companion socket of {EndPoint} has stopped accepting.", EventName = "CompanionFailed")]
    internal static partial void CompanionFailed(ILogger logger, IPEndPoint endPoint, Exception exception);

    [LoggerMessage(130, LogLevel.Debug, "Waiting up to {Linger} for the peers of {Connections} connections to acknowledge what was sent to them.", EventName = "Lingering")]
    internal static partial void Lingering(ILogger logger, TimeSpan linger, int connections);

    [LoggerMessage(131, LogLevel.Warning, "{Connections} connections were cut with data that their peers had not acknowledged within {Linger} (ShutdownLinger).", EventName = "Cut")]
    internal static partial void Cut(ILogger logger, int connections, TimeSpan linger);
}
