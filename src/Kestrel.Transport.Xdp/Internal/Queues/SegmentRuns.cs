using Xdp.Sockets;
using Xdp.Sockets.Net;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>The way past the ring: <see cref="GsoSocket"/>.</summary>
internal interface IRunSocket : IDisposable
{
    /// <inheritdoc cref="GsoSocket.CountRun"/>
    int CountRun(ReadOnlySpan<XdpDescriptor> packets);

    /// <inheritdoc cref="GsoSocket.Send"/>
    GsoStatus Send(ReadOnlySpan<XdpDescriptor> run);
}

/// <summary>The TX ring.</summary>
internal interface ITransmitRing
{
    /// <summary>There must be room.</summary>
    void Put(ReadOnlySpan<XdpDescriptor> packets);

    /// <summary>Has the kernel send what is on it. False when something is left.</summary>
    bool TryEmpty();

    /// <summary>A packet was sent, not by the ring: its frame is no longer the kernel's.</summary>
    void Completed(in XdpDescriptor packet);
}

/// <summary>
/// Puts segments on the TX ring, but for runs of one connection, which go past it as one packet each. Keeps their
/// order: what a peer sees overtaken it takes for lost. Owns the socket for runs. The turn's.
/// </summary>
internal sealed class SegmentRuns(ITransmitRing ring, QueueCounters counters) : IDisposable
{
    /// <summary>Segments that are worth a system call of their own.</summary>
    internal const int SmallestRun = 4;

    private IRunSocket? _socket;

    /// <summary>Runs go by this socket from now on; null has all go on the ring.</summary>
    internal void Use(IRunSocket? socket)
    {
        _socket?.Dispose();
        _socket = socket;
    }

    /// <summary>Sends packets, for all of which the ring has room.</summary>
    /// <returns>How many of them went past the ring.</returns>
    internal int Send(ReadOnlySpan<XdpDescriptor> packets)
    {
        int past = 0;
        for (int i = 0; _socket is not null && packets.Length - i >= SmallestRun;)
        {
            int run = _socket.CountRun(packets[i..]);
            if (run < SmallestRun)
            {
                i += run;
                continue;
            }
            ring.Put(packets[..i]);
            packets = packets[i..];
            if (!ring.TryEmpty())
                break;
            if (SendAsOne(_socket, packets[..run]))
            {
                past += run;
                packets = packets[run..];
                i = 0;
            }
            else
            {
                i = run;
            }
        }
        ring.Put(packets);
        return past;
    }

    public void Dispose() => Use(null);

    // False when the segments are still to be sent.
    private bool SendAsOne(IRunSocket socket, ReadOnlySpan<XdpDescriptor> run)
    {
        GsoStatus status = socket.Send(run);
        if (status is GsoStatus.Busy or GsoStatus.Refused)
        {
            counters.OffloadRefused += run.Length;
            if (status == GsoStatus.Refused)
                Use(null);
            return false;
        }
        if (status == GsoStatus.Sent)
            counters.Offloaded += run.Length;
        else
            counters.OffloadDropped += run.Length;
        foreach (ref readonly XdpDescriptor segment in run)
            ring.Completed(segment);
        return true;
    }
}

/// <summary>The kernel's.</summary>
internal sealed class RunSocket(GsoSocket socket) : IRunSocket
{
    public int CountRun(ReadOnlySpan<XdpDescriptor> packets) => socket.CountRun(packets);

    public GsoStatus Send(ReadOnlySpan<XdpDescriptor> run) => socket.Send(run);

    public void Dispose() => socket.Dispose();
}
