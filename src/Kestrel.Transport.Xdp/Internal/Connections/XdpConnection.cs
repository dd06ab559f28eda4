using System.IO.Pipelines;
using System.Net;
using Kestrel.Transport.Xdp.Internal.Logging;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Connections;

/// <summary>
/// A TCP connection as Kestrel sees it: the application's side, for any thread. The queue's side, with the pipes, is
/// <see cref="Queue"/>.
/// </summary>
/// <remarks>
/// How it ends: exactly one of the peer's FIN, reset, time-out, <see cref="Abort(ConnectionAbortedException)"/>,
/// completed output or <see cref="DisposeAsync"/> comes first, and its reason is what pending and later reads see.
/// <see cref="ConnectionClosed"/> fires once, on the thread pool, when Input has ended.
/// Most connections of a busy server are idle: what few of them are asked for is made when it is.
/// </remarks>
internal sealed class XdpConnection
    : ConnectionFeatures, IDuplexPipe, IThreadPoolWorkItem, IConnectionLifetimeFeature, IXdpConnectionFeature
{
    private CancellationTokenSource? _closedSource;

    /// <summary>How it ends. Shared with <see cref="Queue"/>.</summary>
    internal ConnectionEnd End;

    public XdpConnection(TcpConnection tcp, ConnectionSettings settings)
    {
        Queue = new QueueSide(this, tcp, settings);
        Transport = this;
    }

    /// <summary>
    /// A connection whose TCP is given with each call of the queue's side, and whose endpoints have to be set.
    /// </summary>
    internal XdpConnection(int mss, long sendBuffer, ConnectionSettings settings)
    {
        Queue = new QueueSide(this, mss, sendBuffer, settings);
        Transport = this;
    }

    internal QueueSide Queue { get; }

    private ConnectionSettings Settings => Queue.Settings;

    // The application's end of the pipes. Transport is this at first, and whatever wraps it later.
    public PipeReader Input => Queue.Input;
    public PipeWriter Output => Queue.Output;

    /// <summary>What the application reads and writes: this connection's pipes, or what wraps them.</summary>
    public override IDuplexPipe Transport { get; set; }

    public string InterfaceName => Settings.InterfaceName;
    public int QueueId => Settings.QueueId;
    public string BindMode => Settings.BindMode;

    public override EndPoint? LocalEndPoint
    {
        get => base.LocalEndPoint ??= Queue.LocalEndPoint;
        set => base.LocalEndPoint = value;
    }

    public override EndPoint? RemoteEndPoint
    {
        get => base.RemoteEndPoint ??= Queue.RemoteEndPoint;
        set => base.RemoteEndPoint = value;
    }

    public override CancellationToken ConnectionClosed
    {
        get
        {
            lock (Queue.Lock)
            {
                if (!End.TokenIsGiven)
                {
                    End.TokenIsGiven = true;
                    base.ConnectionClosed = End.IsClosedRaised
                        ? new CancellationToken(canceled: true)
                        : (_closedSource = new()).Token;
                }
                return base.ConnectionClosed;
            }
        }
        set
        {
            lock (Queue.Lock)
            {
                End.TokenIsGiven = true;
                base.ConnectionClosed = value;
            }
        }
    }

    private protected override System.Buffers.MemoryPool<byte> MemoryPool => Settings.MemoryPool;

    public TcpConnectionInfo GetTcpInfo() => Queue.GetTcpInfo();

    /// <summary>
    /// Ends the connection: with a RST when there is a reason, with a FIN behind what was flushed when there is none.
    /// Any thread, any number of times; the first reason counts.
    /// </summary>
    public override void Abort(ConnectionAbortedException? abortReason) => Queue.Shutdown(abortReason);

    public override void Abort() => Abort(
        new ConnectionAbortedException("The connection was aborted by the application via ConnectionContext.Abort()."));

    void IConnectionLifetimeFeature.Abort() => Abort(
        new ConnectionAbortedException(
            "The connection was aborted by the application via IConnectionLifetimeFeature.Abort()."));

    /// <summary>
    /// Ends the connection gracefully if nothing else has. Completes once the stack has taken all output and the
    /// callbacks of <see cref="ConnectionClosed"/> have run. Never throws.
    /// </summary>
    public override async ValueTask DisposeAsync()
    {
        Input.Complete();
        Output.Complete();
        await End.WaitAsync().ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _closedSource?.Dispose();
    }

    /// <summary>Schedules the callbacks of <see cref="ConnectionClosed"/>, the first time. Any thread.</summary>
    internal void RaiseClosed()
    {
        if (End.TryRaiseClosed())
            ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
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
            ConnectionLog.ClosedCallbackFailed(Settings.Logger, exception, ConnectionId);
        }
        End.CallbacksHaveRun();
    }

    private void CancelClosedSource()
    {
        CancellationTokenSource? source;
        lock (Queue.Lock)
            source = _closedSource;
        source?.Cancel();
    }
}
