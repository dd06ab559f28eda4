using System.Runtime.CompilerServices;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Connections;

/// <summary>
/// What a connection calls on its TCP connection. Implemented by structs and used as a type argument only, so that
/// calls are direct; tests put a scripted TCP in its place.
/// </summary>
internal interface ITcp
{
    long ReadableBytes { get; }
    BlockQueue TakeReceived(long maxBytes);
    void ReleaseWindow(long bytes, long kept);
    void Write(ref BlockQueue data);
    long UnacknowledgedBytes { get; }
    long SendBuffer { get; }
    int EffectiveMss { get; }
    void Close();
    void Abort();
    TcpConnectionInfo GetInfo(Instant now);
}

/// <summary>The TCP connection of a <see cref="TcpStack"/>.</summary>
internal readonly struct StackTcp(TcpConnection tcp) : ITcp
{
    public long ReadableBytes
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => tcp.ReadableBytes;
    }

    public long UnacknowledgedBytes => tcp.UnacknowledgedBytes;

    public long SendBuffer => tcp.SendBuffer;

    public int EffectiveMss => tcp.EffectiveMss;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public BlockQueue TakeReceived(long maxBytes) => tcp.TakeReceived(maxBytes);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void ReleaseWindow(long bytes, long kept) => tcp.ReleaseWindow(bytes, kept);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Write(ref BlockQueue data) => tcp.Write(ref data);

    public void Close() => tcp.Close();

    public void Abort() => tcp.Abort();

    public TcpConnectionInfo GetInfo(Instant now) => tcp.GetInfo(now);
}
