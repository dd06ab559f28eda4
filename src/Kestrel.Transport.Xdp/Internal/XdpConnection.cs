using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
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
/// </remarks>
internal sealed partial class XdpConnection : ConnectionContext, IDuplexPipe, IThreadPoolWorkItem
{
    private readonly ConnectionHost _host;
    private readonly TcpConnection? _tcp;
    private readonly XdpConnectionSettings _settings;
    private readonly XdpPipeReader _input;
    private readonly XdpPipeWriter _output;
    private readonly CancellationTokenSource _closedSource = new();

    /// <summary>Done once the stack has all output and the callbacks of <see cref="ConnectionClosed"/> have run.</summary>
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _endsMissing = 2;
    private int _closedFired;
    private Exception? _shutdownReason;
    private WorkWord _work;

    /// <summary>Apart from everything else, since both sides write it for every request.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 128)]
    private struct WorkWord
    {
        [FieldOffset(64)]
        public int Bits;
    }

    public XdpConnection(ConnectionHost host, TcpConnection tcp, XdpConnectionSettings settings)
        : this(host, tcp.Flow, tcp.EffectiveMss, settings)
    {
        _tcp = tcp;
    }

    /// <summary>A connection whose TCP is given with each call of the queue side.</summary>
    internal XdpConnection(ConnectionHost host, in FlowKey flow, int mss, XdpConnectionSettings settings)
    {
        _host = host;
        _settings = settings;
        var connectionLock = new Lock();
        _input = new XdpPipeReader(this, host, connectionLock, settings);
        _output = new XdpPipeWriter(this, host, connectionLock, settings, mss);
        Transport = this;
        InitializeFeatures();
        ConnectionClosed = _closedSource.Token;
        LocalEndPoint = new IPEndPoint(ToAddress(flow.Local), flow.LocalPort);
        RemoteEndPoint = new IPEndPoint(ToAddress(flow.Remote), flow.RemotePort);
    }

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
        bool reset = reason is not null && !_settings.FinOnError;
        if (reset)
            XdpConnectionLog.WriteRst(_settings.Logger, ConnectionId, seen.Message);
        else
            XdpConnectionLog.WriteFin(_settings.Logger, ConnectionId, seen.Message);
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
        _host.ApplicationWaits(this);
        await _ended.Task.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _closedSource.Dispose();
    }

    /// <summary>Runs the callbacks of <see cref="ConnectionClosed"/>.</summary>
    public void Execute()
    {
        try
        {
            _closedSource.Cancel();
        }
        catch (Exception exception)
        {
            XdpConnectionLog.ClosedCallbackFailed(_settings.Logger, exception, ConnectionId);
        }
        CountEnd();
    }

    /// <summary>Asks the queue for work. Any thread.</summary>
    internal void Signal(ConnectionWork work)
    {
        if (Interlocked.Or(ref _work.Bits, (int)work) == 0)
            _host.Post(this);
    }

    private void FireConnectionClosed()
    {
        if (Interlocked.Exchange(ref _closedFired, 1) == 0)
            ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
    }

    private void CountEnd()
    {
        if (Interlocked.Decrement(ref _endsMissing) == 0)
            _ended.TrySetResult();
    }

    private IPAddress ToAddress(IpAddr address)
    {
        IPAddress result = address.ToIPAddress(_settings.MapIPv4);
        if (address.IsLinkLocal && result.AddressFamily == AddressFamily.InterNetworkV6)
            result.ScopeId = _settings.ScopeId;
        return result;
    }
}
