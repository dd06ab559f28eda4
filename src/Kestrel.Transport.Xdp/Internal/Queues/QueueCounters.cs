namespace Kestrel.Transport.Xdp.Internal;

/// <summary>Totals of one queue since it was opened. Written by whoever has the turn, read by anybody, near enough.</summary>
internal sealed class QueueCounters
{
    internal long Turns, PoolTurns, PosterTurns, PacketsReceived, BytesReceived, PacketsSent, BytesSent, Kicks, KickFailures;
    internal long Accepted, Moved, MovedDropped, Refused, StalledTurns, Failures, Redirected;
}
