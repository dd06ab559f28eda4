namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// Totals of one queue since it was opened. Written by whoever has the turn, read by anybody, near enough.
/// </summary>
internal sealed class QueueCounters
{
    internal long Turns, PoolTurns, PosterTurns, StalledTurns;
    internal long PacketsReceived, BytesReceived, PacketsSent, BytesSent, Kicks, KickFailures;
    internal long Chained, ChainedDropped;
    internal long Offloaded, OffloadDropped, OffloadRefused;
    internal long Forwarded, ForwardedDropped, Refused;
    internal long RouteDropped, HandedOver, SentByKernel, SentByKernelDropped;
    internal long Accepted, Redirected, Failures;
}
