using System.Net;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.Internal.Logging;
using Kestrel.Transport.Xdp.Internal.Pipes;
using Microsoft.AspNetCore.Connections;
using Xdp.TcpLite;
using TcpState = Xdp.TcpLite.TcpState;

namespace Kestrel.Transport.Xdp.Internal.Connections;

/// <summary>
/// The queue's side of a connection: its pipes, the work word by which the application asks for something, and what is
/// done about it in a turn.
/// </summary>
/// <remarks>
/// In a turn the queue calls <see cref="OnEvents(TcpEvents)"/> when the stack has events, <see cref="TakeWork"/> and
/// <see cref="ApplyWork(ConnectionWork)"/> when the connection is on the dirty list, and <see cref="Deliver(bool)"/>
/// after either, when the stack is not on the call stack. When the queue stops, it tells every connection that is left
/// of <see cref="TcpEvents.Closed"/>. What is marked so is for any thread.
/// </remarks>
internal sealed class QueueSide : PipeOwner
{
    private readonly XdpConnection _connection;
    private readonly TcpConnection? _tcp;
    private TcpInfoRequest? _infoRequest;
    private Deliveries _deliveries;
    private LastWord _lastWord;
    private bool _peerClosed;
    private bool _inputPaused;

    /// <summary>What the application has asked for.</summary>
    internal WorkWord Work;

    internal QueueSide(XdpConnection connection, TcpConnection tcp, ConnectionSettings settings)
        : this(connection, tcp.EffectiveMss, tcp.SendBuffer, settings)
    {
        _tcp = tcp;
    }

    internal QueueSide(XdpConnection connection, int mss, long sendBuffer, ConnectionSettings settings)
        : base(settings)
    {
        _connection = connection;
        Input = new XdpPipeReader(this);
        Output = new XdpPipeWriter(this, mss, sendBuffer);
    }

    /// <summary>What the TCP connection was told, or has said, last of all.</summary>
    private enum LastWord : byte
    {
        None,

        /// <summary>FIN follows what was written.</summary>
        Fin,

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

    /// <summary>
    /// What both sides write for every request. As a struct it comes last in the object, at some distance from the
    /// fields that both read and nobody writes.
    /// </summary>
    internal struct WorkWord
    {
        /// <summary>Link of the queue's list of dirty connections.</summary>
        public QueueSide? NextDirty;

        /// <summary>The <see cref="ConnectionWork"/> that is wanted.</summary>
        public int Bits;
    }

    internal ConnectionHost Host => Settings.Host;

    internal new ConnectionSettings Settings => (ConnectionSettings)base.Settings;

    internal XdpPipeReader Input { get; }

    internal XdpPipeWriter Output { get; }

    internal ConnectionOwner Owner => Settings.Owner!;

    internal FlowKey Flow => _tcp!.Flow;

    internal IPEndPoint? LocalEndPoint =>
        _tcp is null ? null : Settings.EndPointOf(_tcp.Flow.Local, _tcp.Flow.LocalPort);

    internal IPEndPoint? RemoteEndPoint =>
        _tcp is null ? null : Settings.EndPointOf(_tcp.Flow.Remote, _tcp.Flow.RemotePort);

    /// <summary>Neighbours in the queue's list of its connections.</summary>
    internal QueueSide? NextInQueue { get; set; }
    internal QueueSide? PreviousInQueue { get; set; }

    /// <summary>The peer has acknowledged everything, the FIN included, or the connection has ended.</summary>
    internal bool IsAcknowledged { get; set; }

    /// <summary>The engine has been asked for the way to the peer.</summary>
    internal bool PathIsSuspect { get; set; }

    /// <summary>Something that was written, or our FIN, was never sent.</summary>
    internal bool HasUnsent =>
        _tcp is { State: TcpState.Established or TcpState.CloseWait } or { UnsentBytes: > 0 };

    private bool IsDetached => ((ConnectionWork)Volatile.Read(ref Work.Bits) & ConnectionWork.Detached) != 0;

    /// <summary>The way that its segments go.</summary>
    internal Route Route => _tcp!.Route;

    /// <summary>Its segments go this way from now on; null leaves them where they go.</summary>
    /// <returns>False when they went there already.</returns>
    internal bool TakeRoute(Route? route)
    {
        if (route is null || route == Route || _tcp!.State == TcpState.Closed)
            return false;
        bool isOther = route.Path != Route.Path;
        _tcp.Route = route;
        return isOther;
    }

    // ---- what the application asks for. Any thread, outside the lock.

    internal override void OnFlushed() => Signal(ConnectionWork.Output);

    internal override void OnExamined() => Signal(ConnectionWork.Window);

    internal override void OnInputCompleted() => Signal(ConnectionWork.CloseReceive);

    internal override void OnOutputCompleted(Exception? exception)
    {
        if (exception is null)
            Signal(ConnectionWork.Output | ConnectionWork.Close);
        else
            Shutdown(exception);
    }

    /// <summary>Ends the connection: with RST for a reason, with FIN behind what was flushed for none.</summary>
    internal void Shutdown(Exception? reason)
    {
        Exception seen = reason ?? CompletedGracefully();
        if (!_connection.End.TryGiveReason(seen))
            return;
        bool reset = reason is not null && !Settings.FinOnError;
        if (reset)
            ConnectionLog.WriteRst(Settings.Logger, _connection.ConnectionId, seen.Message);
        else
            ConnectionLog.WriteFin(Settings.Logger, _connection.ConnectionId, seen.Message);
        bool flushClaimed = Output.Close(drop: reset);
        bool readClaimed = Input.CompleteWriter(seen);
        Signal(reset ? ConnectionWork.Abort : ConnectionWork.Output | ConnectionWork.Close);
        _connection.RaiseClosed();
        if (readClaimed)
            Input.Schedule();
        if (flushClaimed)
            Output.Schedule();
    }

    /// <summary>A snapshot from the queue, or the last one when the queue does not come to it in time.</summary>
    internal TcpConnectionInfo GetTcpInfo()
    {
        bool detached = IsDetached;
        if (!detached && _tcp is not null && Host.InTurn)
            return _tcp.GetInfo(Host.Now);
        TcpInfoRequest request = _infoRequest
            ?? Interlocked.CompareExchange(ref _infoRequest, new TcpInfoRequest(), null)
            ?? _infoRequest;
        if (detached)
            request.End();
        long seen = request.Published;
        Signal(ConnectionWork.Info);
        return request.Wait(seen);
    }

    private void Signal(ConnectionWork work)
    {
        if (Interlocked.Or(ref Work.Bits, (int)work) == 0)
            Host.Post(this);
    }

    // ---- in a turn

    /// <summary>Takes what the application has asked for; its next request posts the connection again.</summary>
    internal ConnectionWork TakeWork()
    {
        const ConnectionWork kept = ConnectionWork.Detached;
        var work = (ConnectionWork)Interlocked.And(ref Work.Bits, (int)kept);
        return (work & kept) != 0 ? ConnectionWork.None : work;
    }

    internal void ApplyWork(ConnectionWork work) => ApplyWork(work, new StackTcp(_tcp!));

    internal void OnEvents(TcpEvents events) => OnEvents(events, new StackTcp(_tcp!));

    internal void ApplyWork<TTcp>(ConnectionWork work, TTcp tcp) where TTcp : struct, ITcp
    {
        if ((work & ConnectionWork.Info) != 0)
            _infoRequest?.Publish(tcp.GetInfo(Host.Now));
        if (_lastWord == LastWord.Reset)
            return;
        if ((work & ConnectionWork.Abort) != 0)
        {
            _lastWord = LastWord.Reset;
            tcp.Abort();
            _connection.End.OutputIsTaken();
            return;
        }
        if ((work & ConnectionWork.Output) != 0)
        {
            BlockQueue pending = Output.TakePending();
            if (!pending.IsEmpty)
                tcp.Write(ref pending);
        }
        if (_lastWord == LastWord.Fin)
            return;
        if ((work & ConnectionWork.Close) != 0)
        {
            _lastWord = LastWord.Fin;
            tcp.Close();
            _connection.End.OutputIsTaken();
            // Output was completed. As with sockets, no connection is kept half open after that.
            EndPipes();
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
            OnFault((events & TcpEvents.Reset) != 0 ? SocketError.ConnectionReset : SocketError.TimedOut);
        }
        else
        {
            if ((events & (TcpEvents.Sent | TcpEvents.AllAcknowledged)) != 0
                && Output.OnSent(tcp.UnacknowledgedBytes, tcp.SendBuffer, tcp.EffectiveMss))
            {
                _deliveries |= Deliveries.Flush;
            }
            if ((events & (TcpEvents.Readable | TcpEvents.PeerClosed)) != 0 && _lastWord == LastWord.None)
            {
                _peerClosed |= (events & TcpEvents.PeerClosed) != 0;
                PullInput(tcp);
            }
        }
        if ((events & TcpEvents.Closed) != 0)
            Detach();
    }

    /// <summary>
    /// Runs or schedules what awaits the operations that this turn completed; false when there was nothing. Application
    /// code may run in here, and call back into the connection.
    /// </summary>
    internal bool Deliver() => Deliver(Settings.InlineScheduling);

    /// <summary>
    /// As <see cref="Deliver()"/>, with application code run in here only if <paramref name="inline"/>.
    /// </summary>
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
                RunInline(Output);
            else
                Output.Schedule();
        }
        if ((deliveries & Deliveries.Read) != 0)
        {
            if (inline)
                RunInline(Input);
            else
                Input.Schedule();
        }
        return true;
    }

    // What awaits a pipe is foreign code. If it throws, its connection ends, and the turn's other connections go on.
    private void RunInline(IThreadPoolWorkItem pipe)
    {
        try
        {
            pipe.Execute();
        }
        catch (Exception e)
        {
            ConnectionLog.ContinuationFailed(Settings.Logger, e, _connection.ConnectionId);
            Shutdown(new ConnectionAbortedException("What awaited the connection's pipes failed.", e));
        }
    }

    /// <summary>
    /// Ends the TCP connection with RST, whatever the pipes say. What it holds goes back to where it came from.
    /// </summary>
    internal void AbortTcp() => _tcp?.Abort();

    private void PullInput<TTcp>(TTcp tcp) where TTcp : struct, ITcp
    {
        long taken = 0;
        while (tcp.ReadableBytes > 0 && Input.Room is > 0 and long room)
        {
            if (_inputPaused)
            {
                _inputPaused = false;
                ConnectionLog.Resume(Settings.Logger, _connection.ConnectionId);
            }
            BlockQueue blocks = tcp.TakeReceived(room);
            taken += blocks.Bytes;
            XdpPipeReader.Receipt receipt = Input.Receive(ref blocks);
            if (receipt.Claimed)
                _deliveries |= Deliveries.Read;
            if (receipt.Paused)
            {
                _inputPaused = true;
                ConnectionLog.Pause(Settings.Logger, _connection.ConnectionId);
            }
            if (receipt.Dropped)
                _connection.RaiseClosed();
        }
        // As with a socket in front of a pipe: what the pipe has taken is not in the receive buffer any more.
        tcp.ReleaseWindow(taken, Input.TakeKept());
        if (_peerClosed && tcp.ReadableBytes == 0)
            EndInput();
    }

    // The peer's FIN has come, and everything before it is in the pipe.
    private void EndInput()
    {
        if (Input.CompleteWriter(null))
            _deliveries |= Deliveries.Read;
        if (!_connection.End.IsClosedRaised)
            ConnectionLog.ReadFin(Settings.Logger, _connection.ConnectionId);
        _connection.RaiseClosed();
    }

    private void OnFault(SocketError error)
    {
        _lastWord = LastWord.Reset;
        var cause = new SocketException((int)error);
        bool isReset = error == SocketError.ConnectionReset;
        Exception fault = isReset ? new ConnectionResetException(cause.Message, cause) : cause;
        _connection.End.TryGiveReason(fault);
        if (isReset)
            ConnectionLog.Reset(Settings.Logger, _connection.ConnectionId);
        else
            ConnectionLog.Error(Settings.Logger, fault, _connection.ConnectionId);
        if (Output.Close(drop: true, isReset ? null : fault))
            _deliveries |= Deliveries.Flush;
        EndPipes();
        _connection.End.OutputIsTaken();
    }

    // Input ends with the reason that came first, if it has not ended already.
    private void EndPipes()
    {
        if (_connection.End.Reason is null)
        {
            ConnectionAbortedException reason = CompletedGracefully();
            if (_connection.End.TryGiveReason(reason))
                ConnectionLog.WriteFin(Settings.Logger, _connection.ConnectionId, reason.Message);
        }
        if (Output.Close(drop: false))
            _deliveries |= Deliveries.Flush;
        if (Input.CompleteWriter(_connection.End.Reason))
            _deliveries |= Deliveries.Read;
        _connection.RaiseClosed();
    }

    // The stack has forgotten the connection.
    private void Detach()
    {
        Interlocked.Or(ref Work.Bits, (int)ConnectionWork.Detached);
        if (Output.Close(drop: true))
            _deliveries |= Deliveries.Flush;
        EndPipes();
        _connection.End.OutputIsTaken();
        _infoRequest?.End();
    }

    private static ConnectionAbortedException CompletedGracefully() =>
        new("The XDP transport's output was completed gracefully.");
}
