using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>
/// A TCP connection as Kestrel sees it. It owns the two ends of its pipes and the work word by which it asks its queue for things; the
/// protocol is the <see cref="TcpConnection"/>'s. This file is the application's side, for any thread;
/// <c>XdpConnection.Queue.cs</c> is the queue's, inside a turn; <c>XdpConnection.Features.cs</c> is the feature collection.
/// </summary>
/// <remarks>
/// How it ends: exactly one of peer's FIN, reset, time-out, <see cref="Abort(ConnectionAbortedException)"/>, completed output or
/// <see cref="DisposeAsync"/> comes first, and its reason is what pending and later reads see. <see cref="ConnectionClosed"/> fires once, on the
/// thread pool, when Input has ended.
/// Most connections of a busy server are idle: what few of them are asked for is made when it is.
/// </remarks>
internal sealed partial class XdpConnection : ConnectionContext, IDuplexPipe, IThreadPoolWorkItem
{
    private readonly TcpConnection? _tcp;
    private readonly XdpPipeReader _input;
    private readonly XdpPipeWriter _output;
    private TaskCompletionSource? _ended;
    private Exception? _shutdownReason;
    private int _ends;

    /// <summary>What the application has asked for, and who is to be told.</summary>
    internal WorkWord Work;

    /// <summary>What has happened on the way to the connection's end: the bits of <see cref="_ends"/>.</summary>
    [Flags]
    private enum Ends
    {
        None = 0,

        /// <summary><see cref="ConnectionClosed"/> fires: <see cref="Execute"/> is scheduled.</summary>
        ClosedFired = 1,

        /// <summary>Its callbacks have run.</summary>
        CallbacksRun = 2,

        /// <summary>The stack has all output.</summary>
        CustodyTaken = 4,

        /// <summary>What <see cref="DisposeAsync"/> waits for.</summary>
        Awaited = CallbacksRun | CustodyTaken,
    }

    /// <summary>
    /// What both sides write for every request. As a struct it comes last in the object, a cache line and more behind the fields that both read and nobody
    /// writes.
    /// </summary>
    internal struct WorkWord
    {
        /// <summary>Link of the queue's list of dirty connections.</summary>
        public XdpConnection? NextDirty;

        /// <summary>The <see cref="ConnectionWork"/> that is wanted.</summary>
        public int Bits;
    }

    public XdpConnection(ConnectionHost host, TcpConnection tcp, XdpConnectionSettings settings)
        : this(host, tcp.EffectiveMss, settings)
    {
        _tcp = tcp;
    }

    /// <summary>A connection whose TCP is given with each call of the queue side, and whose endpoints have to be set.</summary>
    internal XdpConnection(ConnectionHost host, int mss, XdpConnectionSettings settings)
    {
        Host = host;
        Settings = settings;
        _input = new XdpPipeReader(this);
        _output = new XdpPipeWriter(this, mss);
        Transport = this;
    }

    internal ConnectionHost Host { get; }

    internal XdpConnectionSettings Settings { get; }

    /// <summary>Guards both pipes, and what is made on demand.</summary>
    internal Lock Gate { get; } = new();

    /// <summary>The application end of the pipes. <see cref="Transport"/> is this at first, and whatever wraps it later.</summary>
    public PipeReader Input => _input;
    public PipeWriter Output => _output;

    /// <summary>
    /// Ends the connection: with a RST when there is a reason, with a FIN behind what was flushed when there is none. Any thread, any
    /// number of times; the first reason counts.
    /// </summary>
    public override void Abort(ConnectionAbortedException? abortReason) => Shutdown(abortReason);

    public override void Abort() =>
        Abort(new ConnectionAbortedException("The connection was aborted by the application via ConnectionContext.Abort()."));

    /// <summary>As <see cref="Abort(ConnectionAbortedException)"/>, for any reason. Not inside the connection's lock.</summary>
    internal void Shutdown(Exception? reason)
    {
        Exception seen = reason ?? new ConnectionAbortedException("The XDP transport's output was completed gracefully.");
        if (Interlocked.CompareExchange(ref _shutdownReason, seen, null) is not null)
            return;
        bool reset = reason is not null && !Settings.FinOnError;
        if (reset)
            XdpConnectionLog.WriteRst(Settings.Logger, ConnectionId, seen.Message);
        else
            XdpConnectionLog.WriteFin(Settings.Logger, ConnectionId, seen.Message);
        bool flushClaimed = _output.Close(drop: reset);
        bool readClaimed = _input.CompleteWriter(seen);
        Signal(reset ? ConnectionWork.Abort : ConnectionWork.Output | ConnectionWork.Close);
        FireConnectionClosed();
        if (readClaimed)
            _input.Schedule();
        if (flushClaimed)
            _output.Schedule();
    }

    /// <summary>
    /// Ends the connection gracefully if nothing else has, and completes once the stack has custody of all output and the
    /// callbacks of <see cref="ConnectionClosed"/> have run. Never throws.
    /// </summary>
    public override async ValueTask DisposeAsync()
    {
        _input.Complete();
        _output.Complete();
        if (!Has(Ends.Awaited))
        {
            // Published before the bits are looked at again, and read after they are written: one side sees the other.
            TaskCompletionSource ended = Volatile.Read(ref _ended)
                ?? Interlocked.CompareExchange(ref _ended, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously), null)
                ?? _ended;
            if (!Has(Ends.Awaited))
                await ended.Task.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
        _closedSource?.Dispose();
    }

    /// <summary>Runs the callbacks of <see cref="ConnectionClosed"/>.</summary>
    public void Execute()
    {
        try
        {
            CancelClosedSource();
        }
        catch (Exception exception)
        {
            XdpConnectionLog.ClosedCallbackFailed(Settings.Logger, exception, ConnectionId);
        }
        End(Ends.CallbacksRun);
    }

    /// <summary>Asks the queue for work. Any thread.</summary>
    internal void Signal(ConnectionWork work)
    {
        if (Interlocked.Or(ref Work.Bits, (int)work) == 0)
            Host.Post(this);
    }

    private bool Has(Ends ends) => ((Ends)Volatile.Read(ref _ends) & ends) == ends;

    /// <summary>Sets bits; true for the caller who was the first to set any of them.</summary>
    private bool Set(Ends ends) => ((Ends)Interlocked.Or(ref _ends, (int)ends) & ends) == Ends.None;

    private void FireConnectionClosed()
    {
        if (Set(Ends.ClosedFired))
            ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
    }

    private void End(Ends part)
    {
        if (Set(part) && Has(Ends.Awaited))
            Volatile.Read(ref _ended)?.TrySetResult();
    }
}
