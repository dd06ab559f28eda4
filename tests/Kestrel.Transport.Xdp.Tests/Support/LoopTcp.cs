using Kestrel.Transport.Xdp.Internal.Connections;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Support;

/// <summary>A TCP that sends at once, and allocates nothing.</summary>
internal sealed class LoopTcp
{
    public BlockQueue Readable;
    public long Written;

    public readonly struct Ref(LoopTcp tcp) : ITcp
    {
        public long ReadableBytes => tcp.Readable.Bytes;
        public long UnacknowledgedBytes => 0;
        public long SendBuffer => 0;
        public int EffectiveMss => FakePeer.Mss;

        public BlockQueue TakeReceived(long maxBytes)
        {
            BlockQueue taken = tcp.Readable;
            tcp.Readable = default;
            return taken;
        }

        public void ReleaseWindow(long bytes, long kept)
        {
        }

        public void Write(ref BlockQueue data)
        {
            tcp.Written += data.Bytes;
            data.ReturnAll();
        }

        public void Close()
        {
        }

        public void Abort()
        {
        }

        public TcpConnectionInfo GetInfo(Instant now) => default;
    }
}
