using System.Net;
using Kestrel.Transport.Xdp.Internal.Options;
using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Internal.Logging;

/// <summary>
/// What the transport logs, apart from what single connections do (<see cref="ConnectionLog"/>). Event ids from 100.
/// </summary>
internal static partial class TransportLog
{
    internal const string Category = "Kestrel.Transport.Xdp";

    [LoggerMessage(
        EventId = 100, Level = LogLevel.Information, EventName = "Serving",
        Message = "{EndPoint} is served over AF_XDP on {Interface} ({Modes}), and by sockets for local clients."
            + "{Sources}")]
    internal static partial void Serving(
        ILogger logger, IPEndPoint endPoint, string @interface, string modes, string sources);

    [LoggerMessage(
        EventId = 101, Level = LogLevel.Warning, EventName = "FallBack",
        Message = "{EndPoint} is served by sockets, not by AF_XDP: {Reason}.{Sources}")]
    internal static partial void FallBack(ILogger logger, IPEndPoint endPoint, string reason, string sources);

    [LoggerMessage(
        EventId = 102, Level = LogLevel.Warning, EventName = "PartialFallBack",
        Message = "{EndPoint} is not served by AF_XDP on {Interface}: {Reason}. What arrives there is served by "
            + "sockets.{Sources}")]
    internal static partial void PartialFallBack(
        ILogger logger, IPEndPoint endPoint, string @interface, string reason, string sources);

    [LoggerMessage(
        EventId = 103, Level = LogLevel.Information, EventName = "Upgraded",
        Message = "{EndPoint} is now served over AF_XDP on {Interface} ({Modes}).")]
    internal static partial void Upgraded(ILogger logger, IPEndPoint endPoint, string @interface, string modes);

    [LoggerMessage(
        EventId = 104, Level = LogLevel.Information, EventName = "SwitchedOff",
        Message = "AF_XDP is switched off ({What}): sockets serve everything.")]
    internal static partial void SwitchedOff(ILogger logger, string what);

    [LoggerMessage(
        EventId = 105, Level = LogLevel.Warning, EventName = "PassedBy",
        Message = "Segments served over AF_XDP pass by these rules of the firewall, of traffic control or of IPsec: "
            + "{Rules}. AllowedSources and DeniedSources of XdpTransportOptions stand in for rules about addresses.")]
    internal static partial void PassedBy(ILogger logger, string rules);

    [LoggerMessage(
        EventId = 106, Level = LogLevel.Information, EventName = "HandedOver",
        Message = "{EndPoint} is a socket that was handed over (systemd socket activation, for instance): the socket "
            + "transport serves it, not AF_XDP.")]
    internal static partial void HandedOver(ILogger logger, string endPoint);

    [LoggerMessage(
        EventId = 107, Level = LogLevel.Warning, EventName = "NothingServed",
        Message = "AF_XDP serves nothing, as all endpoints are left to the socket transport: {Reason}.")]
    internal static partial void NothingServed(ILogger logger, string reason);

    [LoggerMessage(
        EventId = 108, Level = LogLevel.Warning, EventName = "SwitchUnknown",
        Message = EnvironmentSwitches.Transport + " is \"{Value}\" in the environment, which has no effect: 0, false, "
            + "no and off switch AF_XDP off; 1, true, yes and on do not.")]
    internal static partial void SwitchUnknown(ILogger logger, string value);

    [LoggerMessage(
        EventId = 109, Level = LogLevel.Information, EventName = "FilteredBySockets",
        Message = "{EndPoint} is left to sockets: {Reason}.{Sources}")]
    internal static partial void FilteredBySockets(
        ILogger logger, IPEndPoint endPoint, string reason, string sources);

    [LoggerMessage(
        EventId = 110, Level = LogLevel.Warning, EventName = "InterfaceLost",
        Message = "{Interface} is lost: {Reason}. Its connections end; sockets serve until it is back.")]
    internal static partial void InterfaceLost(ILogger logger, string @interface, string reason);

    [LoggerMessage(
        EventId = 150, Level = LogLevel.Warning, EventName = "InterfaceAbandoned",
        Message = "{Interface} is left to sockets: {Reason}. Its connections end. It is not tried again before it "
            + "changes (goes down and up, for instance), or an endpoint starts.")]
    internal static partial void InterfaceAbandoned(ILogger logger, string @interface, string reason);

    [LoggerMessage(
        EventId = 151, Level = LogLevel.Information, EventName = "InterfaceRenamed",
        Message = "{Interface} is called {Name} now, and is served as before. Logs and metrics keep the first name.")]
    internal static partial void InterfaceRenamed(ILogger logger, string @interface, string name);

    [LoggerMessage(
        EventId = 152, Level = LogLevel.Information, EventName = "MtuChanged",
        Message = "{Interface} has an MTU of {Mtu} now. Peers are told that packets may have {Largest} bytes.")]
    internal static partial void MtuChanged(ILogger logger, string @interface, int mtu, int largest);

    [LoggerMessage(
        EventId = 153, Level = LogLevel.Information, EventName = "QueuesChanged",
        Message = "{Interface} has {Queues} receive queues now.")]
    internal static partial void QueuesChanged(ILogger logger, string @interface, int queues);

    [LoggerMessage(
        EventId = 111, Level = LogLevel.Warning, EventName = "QueueRefused",
        Message = "{Interface}, queue {Queue}, has no AF_XDP socket: {Reason}. What arrives there is served by "
            + "sockets.")]
    internal static partial void QueueRefused(ILogger logger, string @interface, int queue, string reason);

    [LoggerMessage(
        EventId = 112, Level = LogLevel.Error, EventName = "QueueFailed",
        Message = "{Interface}, queue {Queue}, has ended with its connections: {Reason}. It is opened again.")]
    internal static partial void QueueFailed(ILogger logger, string @interface, int queue, string reason);

    [LoggerMessage(
        EventId = 113, Level = LogLevel.Critical, EventName = "TurnFailed",
        Message = "{Interface}, queue {Queue}: a turn failed. This is a bug in the transport.")]
    internal static partial void TurnFailed(ILogger logger, string @interface, int queue, Exception exception);

    [LoggerMessage(
        EventId = 114, Level = LogLevel.Warning, EventName = "TurnStalled",
        Message = "{Interface}, queue {Queue}: a turn has been running for {Duration} ms, and every connection of the "
            + "queue waits. {Cause}{NotTold}")]
    internal static partial void TurnStalled(
        ILogger logger, string @interface, int queue, long duration, string cause, string notTold);

    [LoggerMessage(
        EventId = 115, Level = LogLevel.Error, EventName = "ControlFailed",
        Message = "{Interface}: keeping the endpoints up to date failed. It is tried again.")]
    internal static partial void ControlFailed(ILogger logger, string @interface, Exception exception);

    [LoggerMessage(116, LogLevel.Debug, "{Address} port {Port} on {Interface}: {Mode}.", EventName = "EndpointMode")]
    internal static partial void EndpointMode(
        ILogger logger, IPAddress address, int port, string @interface, string mode);

    [LoggerMessage(
        EventId = 117, Level = LogLevel.Warning, EventName = "SynsLimited",
        Message = "{Interface}, queue {Queue}, is flooded with connection attempts: {PerSecond} a second are "
            + "answered, with SYN cookies, and the rest are dropped.{NotTold}")]
    internal static partial void SynsLimited(
        ILogger logger, string @interface, int queue, long perSecond, string notTold);

    [LoggerMessage(
        EventId = 118, Level = LogLevel.Warning, EventName = "SharedInterface",
        Message = "{Interface} is served by another host of this process already, whose {Options} hold for this one "
            + "too.")]
    internal static partial void SharedInterface(ILogger logger, string @interface, string options);

    [LoggerMessage(
        EventId = 119, Level = LogLevel.Warning, EventName = "FewerFrames",
        Message = "{Interface} has {Frames} frames instead of {Wanted}: the memory-lock limit is {Limit} KiB. All of "
            + "them need {Needed} KiB (ulimit -l, LimitMEMLOCK= of systemd, --ulimit memlock= of a container), or "
            + "CAP_IPC_LOCK.")]
    internal static partial void FewerFrames(
        ILogger logger, string @interface, int frames, int wanted, long limit, long needed);

    [LoggerMessage(
        EventId = 140, Level = LogLevel.Warning, EventName = "GenericWithoutMultiBuffer",
        Message = "{Interface}: generic mode needs GRO and TSO off, as this kernel (older than 6.6) gives AF_XDP no "
            + "packet that takes several frames. What is larger than {Largest} bytes is dropped, and uploads stall: "
            + "ethtool -K {Device} gro off, and tso off gso off on the other end of a veth.")]
    private static partial void GenericWithoutMultiBuffer(
        ILogger logger, string @interface, int largest, string device);

    internal static void GenericWithoutMultiBuffer(ILogger logger, string @interface, int largest) =>
        GenericWithoutMultiBuffer(logger, @interface, largest, @interface);

    [LoggerMessage(
        EventId = 141, Level = LogLevel.Warning, EventName = "MtuWithoutMultiBuffer",
        Message = "{Interface} has an MTU of {Mtu}, and this kernel (older than 6.6) gives AF_XDP no packet that takes "
            + "several frames: peers are told that packets may have {Largest} bytes.")]
    internal static partial void MtuWithoutMultiBuffer(ILogger logger, string @interface, int mtu, int largest);

    [LoggerMessage(
        EventId = 143, Level = LogLevel.Information, EventName = "SegmentsGoAlone",
        Message = "{Interface}, queue {Queue}: no packet socket for segments that could go as one packet, so each goes "
            + "on its own, which makes long answers slower: {Reason}")]
    internal static partial void SegmentsGoAlone(ILogger logger, string @interface, int queue, string reason);

    [LoggerMessage(
        EventId = 142, Level = LogLevel.Information, EventName = "SysctlsNotObeyed",
        Message = "Connections over AF_XDP do not obey these settings, which differ from the kernel's defaults: "
            + "{Settings}. docs/differences.md says what holds instead.")]
    internal static partial void SysctlsNotObeyed(ILogger logger, string settings);

    [LoggerMessage(
        EventId = 123, Level = LogLevel.Warning, EventName = "AddressesRefused",
        Message = "{Interface}: {Left} of {Wanted} addresses with their ports are served by sockets, as the XDP "
            + "program's map has not taken them: {Reason}. {Served} are served over AF_XDP.")]
    internal static partial void AddressesRefused(
        ILogger logger, string @interface, int left, int wanted, int served, string reason);

    [LoggerMessage(
        EventId = 122, Level = LogLevel.Debug, EventName = "RefusalDetails",
        Message = "{Interface} was refused, with these words: {Details}")]
    internal static partial void RefusalDetails(ILogger logger, string @interface, string details);

    [LoggerMessage(
        EventId = 120, Level = LogLevel.Debug, EventName = "CompanionAcceptFailed",
        Message = "A connection could not be accepted by the companion socket of {EndPoint}.")]
    internal static partial void CompanionAcceptFailed(ILogger logger, IPEndPoint endPoint, Exception exception);

    [LoggerMessage(
        EventId = 121, Level = LogLevel.Error, EventName = "CompanionFailed",
        Message = "The companion socket of {EndPoint} has stopped accepting.")]
    internal static partial void CompanionFailed(ILogger logger, IPEndPoint endPoint, Exception exception);

    [LoggerMessage(
        EventId = 124, Level = LogLevel.Error, EventName = "CleanUpFailed",
        Message = "{What} ends: a step of it failed. The others follow.")]
    internal static partial void CleanUpFailed(ILogger logger, string what, Exception exception);

    [LoggerMessage(
        EventId = 125, Level = LogLevel.Debug, EventName = "PolicyUnknown",
        Message = "Whether the firewall, traffic control or IPsec have rules for endpoints could not be found out.")]
    internal static partial void PolicyUnknown(ILogger logger, Exception exception);

    [LoggerMessage(
        EventId = 126, Level = LogLevel.Information, EventName = "SourcesChanged",
        Message = "The source lists have changed.{Sources}")]
    internal static partial void SourcesChanged(ILogger logger, string sources);

    [LoggerMessage(
        EventId = 127, Level = LogLevel.Error, EventName = "SourcesNotChanged",
        Message = "The configuration that was read again cannot be used, so the source lists stay as they were.")]
    internal static partial void SourcesNotChanged(ILogger logger, Exception exception);

    [LoggerMessage(
        EventId = 128, Level = LogLevel.Warning, EventName = "SourcesDoNotApply",
        Message = "AllowedSources and DeniedSources do not apply to {EndPoint}, which the socket transport has bound: "
            + "{Reason}.")]
    internal static partial void SourcesDoNotApply(ILogger logger, string endPoint, string reason);

    [LoggerMessage(
        EventId = 129, Level = LogLevel.Warning, EventName = "NatMayTakePort",
        Message = "Source NAT may use ports of endpoints for connections that this machine forwards: {Ports}. Their "
            + "answers would be taken for segments to the endpoint, and the connections would break. A port below "
            + "1024, or at least outside of net.ipv4.ip_local_port_range, avoids that.")]
    internal static partial void NatMayTakePort(ILogger logger, string ports);

    [LoggerMessage(
        EventId = 130, Level = LogLevel.Debug, EventName = "Lingering",
        Message = "Waiting up to {Linger} for the peers of {Connections} connections to acknowledge what was sent to "
            + "them.")]
    internal static partial void Lingering(ILogger logger, TimeSpan linger, int connections);

    [LoggerMessage(
        EventId = 131, Level = LogLevel.Warning, EventName = "Cut",
        Message = "{Connections} connections were cut with data that their peers had not acknowledged within {Linger} "
            + "(ShutdownLinger).")]
    internal static partial void Cut(ILogger logger, int connections, TimeSpan linger);

    [LoggerMessage(
        EventId = 132, Level = LogLevel.Warning, EventName = "QueueLeft",
        Message = "{Interface} has ended, but not queue {Queue}: a turn of it is still running. A handler that does "
            + "not return does that, with UnsafePreferInlineScheduling. Nothing arrives there any more, and the queue "
            + "is closed when the turn ends.")]
    internal static partial void QueueLeft(ILogger logger, string @interface, int queue);
}
