using System.Net.NetworkInformation;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

// The queue's side. Every method is called inside a turn, in this order: OnEvents when the stack has events for the connection, TakeWork
// and ApplyWork when it is on the dirty list, and Deliver after either, when the stack is not on the call stack.
// When the queue stops, OnEvents(TcpEvents.Closed) for every connection that is left.
internal sealed partial class XdpConnection
{
    private Deliveries _deliveries;
    private bool _peerClosed;
    private bool _inputPaused;
    private Ending _ending;

    /// <summary>What the TCP connection was told, or said, last of all.</summary>
    private enum Ending : byte
    {
        None,

        /// <summary>FIN follows what was written.</summary>
        Closed,

        /// <summary>Reset by either side, or timed out.</summary>
        Reset,
    }

    [Flags]
    private enum Deliveries : byte
    {
        None = 0,
        Read = 1,
        Flush = 2,
    }

    internal FlowKey Flow => _tcp!.Flow;

    internal ConnectionOwner Owner => Settings.Owner!;

    /// <summary>Neighbours in the queue's list of its connections.</summary>
    internal XdpConnection? NextInQueue { get; set; }
    internal XdpConnection? PreviousInQueue { get; set; }

    /// <summary>The peer has acknowledged everything, the FIN included, or the connection has ended.</summary>
    internal bool Delivered { get; set; }

    /// <summary>The engine has been asked for the way to the peer.</summary>
    internal bool PathIsSuspect { get; set; }

    /// <summary>False when segments went there already. Tagged paths stay as they are.</summary>
    internal bool SetNeighbour(PhysicalAddress neighbour)
    {
        LinkPath path = _tcp!.Path;
        ulong mac = LinkPath.ReadMac(neighbour.GetAddressBytes());
        if (path.TagCount != 0 || path.RemoteMac == mac)
            return false;
        _tcp.Path = path with { RemoteMac = mac };
        return true;
    }

    /// <summary>Takes what the application side has asked for; its next request posts the connection again.</summary>
    public ConnectionWork TakeWork()
    {
        const ConnectionWork kept = ConnectionWork.Detached;
        var work = (ConnectionWork)Interlocked.And(ref Work.Bits, (int)kept);
        return (work & kept) != 0 ? ConnectionWork.None : work;
    }

    public void ApplyWork(ConnectionWork work) => ApplyWork(work, new StackTcp(_tcp!));

    public void OnEvents(TcpEvents events) => OnEvents(events, new StackTcp(_tcp!));

    internal void ApplyWork<TTcp>(ConnectionWork work, TTcp tcp) where TTcp : struct, ITcp
    {
        if ((work & ConnectionWork.Info) != 0)
            _infoRequest?.Publish(tcp.GetInfo(Host.Now));
        if (_ending == Ending.Reset)
            return;
        if ((work & ConnectionWork.Abort) != 0)
        {
            _ending = Ending.Reset;
            tcp.Abort();
            End(Ends.CustodyTaken);
            return;
        }
        if ((work & ConnectionWork.Output) != 0)
        {
            BlockQueue pending = _output.TakePending();
            if (!pending.IsEmpty)
                tcp.Write(ref pending);
        }
        if (_ending == Ending.Closed)
            return;
        if ((work & ConnectionWork.Close) != 0)
        {
            _ending = Ending.Closed;
            tcp.Close();
            End(Ends.CustodyTaken);
            // Output was completed: the transport does not keep a connection half open, and neither does the socket transport.
            EndFromQueue();
        }
        else if ((work & (ConnectionWork.Window | ConnectionWork.CloseReceive)) != 0)
        {
            PullInput(tcp);
        }
    }

    internal void OnEvents<TTcp>(TcpEvents events, TTcp tcp) where TTcp : struct, ITcp
    {
        if ((events & (TcpEvents.Reset | TcpEvents.TimedOut)) != 0)
        {
            Fault((events & TcpEvents.Reset) != 0 ? SocketError.ConnectionReset : SocketError.TimedOut);
        }
        else
        {
            if ((events & (TcpEvents.Sent | TcpEvents.AllAcknowledged)) != 0 && _output.OnSent(tcp.UnsentBytes, tcp.UnacknowledgedBytes, tcp.EffectiveMss))
                _deliveries |= Deliveries.Flush;
            if ((events & (TcpEvents.Readable | TcpEvents.PeerClosed)) != 0 && _ending == Ending.None)
            {
                _peerClosed |= (events & TcpEvents.PeerClosed) != 0;
                PullInput(tcp);
            }
        }
        if ((events & TcpEvents.Closed) != 0)
            Detach();
    }

    /// <summary>
    /// Runs or schedules what awaits the operations that this turn completed; false when there was nothing. Application code may run in
    /// here, and call back into the connection.
    /// </summary>
    public bool Deliver() => Deliver(Settings.InlineScheduling);

    /// <summary>As <see cref="Deliver()"/>, with application code run in here only if <paramref name="inline"/>.</summary>
    internal bool Deliver(bool inline)
    {
        Deliveries deliveries = _deliveries;
        if (deliveries == Deliveries.None)
            return false;
        _deliveries = Deliveries.None;
        if ((deliveries & Deliveries.Flush) != 0)
        {
            // With both, only one runs inline: the reader's continuation could wait for the flush's.
            if (inline && deliveries == Deliveries.Flush)
                _output.Execute();
            else
                _output.Schedule();
        }
        if ((deliveries & Deliveries.Read) != 0)
        {
            if (inline)
                _input.Execute();
            else
                _input.Schedule();
        }
        return true;
    }

    /// <summary>The queue ends, its stack with it: what the connection's TCP holds goes back to where it came from. After <see cref="TcpEvents.Closed"/>.</summary>
    internal void Discard()
    {
        // Bytes that were received and not taken would survive an abort.
        _tcp?.Close();
        _tcp?.Abort();
    }

    private void PullInput<TTcp>(TTcp tcp) where TTcp : struct, ITcp
    {
        long released = 0;
        bool received = false;
        while (tcp.ReadableBytes > 0 && _input.Room is > 0 and long room)
        {
            received = true;
            if (_inputPaused)
            {
                _inputPaused = false;
                XdpConnectionLog.Resume(Settings.Logger, ConnectionId);
            }
            BlockQueue blocks = tcp.TakeReceived(room);
            XdpPipeReader.Receipt receipt = _input.Receive(ref blocks);
            released += receipt.Released;
            if (receipt.Claimed)
                _deliveries |= Deliveries.Read;
            if (receipt.Paused)
            {
                _inputPaused = true;
                XdpConnectionLog.Pause(Settings.Logger, ConnectionId);
            }
            if (receipt.Dropped)
                FireConnectionClosed();
        }
        if (!received)
            released = _input.TakeReleased();
        if (released > 0)
            tcp.ReleaseWindow(released);
        if (_peerClosed && tcp.ReadableBytes == 0)
            EndInput();
    }

    /// <summary>The peer's FIN, once everything before it is in the pipe.</summary>
    private void EndInput()
    {
        if (_input.CompleteWriter(null))
            _deliveries |= Deliveries.Read;
        if (!Has(Ends.ClosedFired))
            XdpConnectionLog.ReadFin(Settings.Logger, ConnectionId);
        FireConnectionClosed();
    }

    private void Fault(SocketError error)
    {
        _ending = Ending.Reset;
        var cause = new SocketException((int)error);
        Exception fault = error == SocketError.ConnectionReset ? new ConnectionResetException(cause.Message, cause) : cause;
        Interlocked.CompareExchange(ref _shutdownReason, fault, null);
        if (error == SocketError.ConnectionReset)
            XdpConnectionLog.Reset(Settings.Logger, ConnectionId);
        else
            XdpConnectionLog.Error(Settings.Logger, fault, ConnectionId);
        if (_output.Close(drop: true, error == SocketError.ConnectionReset ? null : fault))
            _deliveries |= Deliveries.Flush;
        EndFromQueue();
        End(Ends.CustodyTaken);
    }

    /// <summary>Input ends with the reason that came first, if it has not ended already.</summary>
    private void EndFromQueue()
    {
        if (Volatile.Read(ref _shutdownReason) is null)
        {
            var reason = new ConnectionAbortedException("The XDP transport's output was completed gracefully.");
            if (Interlocked.CompareExchange(ref _shutdownReason, reason, null) is null)
                XdpConnectionLog.WriteFin(Settings.Logger, ConnectionId, reason.Message);
        }
        if (_output.Close(drop: false))
            _deliveries |= Deliveries.Flush;
        if (_input.CompleteWriter(_shutdownReason))
            _deliveries |= Deliveries.Read;
        FireConnectionClosed();
    }

    private void Detach()
    {
        Interlocked.Or(ref Work.Bits, (int)ConnectionWork.Detached);
        if (_output.Close(drop: true))
            _deliveries |= Deliveries.Flush;
        EndFromQueue();
        End(Ends.CustodyTaken);
        _infoRequest?.End();
    }
}
