namespace Xdp.TcpLite;

/// <summary>The clock behind TSval (RFC 7323, section 5.4): it ticks once a millisecond, as Linux's does.</summary>
internal static class TsClock
{
    internal static uint At(Instant now) => (uint)(now.Ticks / TimeSpan.TicksPerMillisecond);
}
