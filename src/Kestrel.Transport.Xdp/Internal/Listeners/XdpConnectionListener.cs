using System.Net;
using System.Threading.Channels;
using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Internal.Logging;
using Kestrel.Transport.Xdp.Internal.Queues;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Internal.Listeners;

/// <summary>
/// A hybrid listener: one endpoint, bound to the interfaces' engines and to a companion socket, whose connections come
/// out of one channel. It ends when both have.
/// </summary>
internal sealed class XdpConnectionListener : IConnectionListener
{
    // For connections that nobody has accepted. One whose queue's turn never ends goes with the queue.
    private static readonly TimeSpan s_endPatience = TimeSpan.FromSeconds(2);

    // When the process ends without the host, it is disposed while Kestrel still reads.
    private readonly Channel<ConnectionContext> _accepted = Channel.CreateUnbounded<ConnectionContext>();

    private readonly AcceptBacklog _backlog;
    private readonly EnginePlan _plan;
    private readonly Action<XdpConnectionListener> _ended;
    private readonly CompanionListener _companion;
    private readonly EndpointBinding _binding;
    private readonly ILogger _logger;
    private readonly Lock _lock = new();
    private Task? _unbinding;

    private XdpConnectionListener(
        ListenerContext context, IPEndPoint endpoint, EnginePlan plan, Action<XdpConnectionListener> ended)
    {
        _plan = plan;
        _ended = ended;
        _logger = context.Logger;
        _backlog = new AcceptBacklog(context.Settings.Backlog);
        _companion = CompanionListener.Bind(endpoint, context, _accepted.Writer, _backlog);
        _binding = new EndpointBinding(
            _companion.EndPoint, context.Settings, _accepted.Writer, _backlog, context.Pool, context.Logger)
        {
            IPv6Only = _companion.Options.IPv6Only,
            Tcp = _companion.Options.Tcp,
        };
    }

    public EndPoint EndPoint => _binding.EndPoint;

    internal CompanionListener Companion => _companion;

    internal EndpointBinding Binding => _binding;

    /// <summary>
    /// In the order that loses no segment: companion's port, program, AF_XDP sockets, companion's listen. The port is
    /// first because the socket's options say which interfaces may serve.
    /// </summary>
    /// <param name="context">The host's.</param>
    /// <param name="endpoint">Where to listen.</param>
    /// <param name="plan">The engines that are to serve it.</param>
    /// <param name="policy">The administrator's rules in the network namespace.</param>
    /// <param name="ended">Told once the listener has been disposed.</param>
    /// <exception cref="AddressInUseException">Somebody has the port.</exception>
    /// <exception cref="XdpUnavailableException">AF_XDP cannot serve the endpoint, and is required to.</exception>
    internal static XdpConnectionListener Bind(
        ListenerContext context, IPEndPoint endpoint, EnginePlan plan, PolicyWatch policy,
        Action<XdpConnectionListener> ended)
    {
        var listener = new XdpConnectionListener(context, endpoint, plan, ended);
        try
        {
            listener.ObeySocketOptions();
            plan.ObeyPolicy(listener._binding.EndPoint.Port, policy);
            plan.Prepare();
            // Not before the port is taken: a second instance of an app is told that, and not that the first one has
            // the interface.
            plan.ThrowIfRequired(listener._binding.EndPoint);
            plan.Activate(listener._binding);
            plan.ThrowIfRequired(listener._binding.EndPoint);
            listener._companion.Listen();
        }
        catch
        {
            listener.DisposeAsync().AsTask().GetAwaiter().GetResult();
            throw;
        }
        plan.Log(context.Logger, listener._binding.EndPoint);
        if (plan.IsServed)
            policy.Add(listener._binding, plan.Engines);
        return listener;
    }

    public async ValueTask<ConnectionContext?> AcceptAsync(CancellationToken cancellationToken = default)
    {
        while (await _accepted.Reader.WaitToReadAsync(cancellationToken).ConfigureAwait(false))
        {
            if (_accepted.Reader.TryRead(out ConnectionContext? connection))
            {
                _backlog.Taken();
                return connection;
            }
        }
        return null;
    }

    // Short, and to be done: a host that is disposed without having been stopped comes with a token that is cancelled.
    public ValueTask UnbindAsync(CancellationToken cancellationToken = default)
    {
        lock (_lock)
            return new ValueTask(_unbinding ??= StopAcceptingAsync());
    }

    /// <summary>Does not throw: what fails of it is logged.</summary>
    public async ValueTask DisposeAsync()
    {
        CleanUp end = End;
        await UnbindAsync().ConfigureAwait(false);
        var left = new List<Task>();
        while (_accepted.Reader.TryRead(out ConnectionContext? connection))
        {
            end.Do(() => connection.Abort(
                new ConnectionAbortedException("The listener was closed before the connection was accepted.")));
            end.Do(() => left.Add(connection.DisposeAsync().AsTask()));
        }
        await end.DoAsync(() => Task.WhenAll(left).WaitAsync(s_endPatience)).ConfigureAwait(false);
        await end.DoAsync(() => _companion.DisposeAsync().AsTask()).ConfigureAwait(false);
        _ended(this);
    }

    private CleanUp End => new(_logger, $"The listener of {EndPoint}");

    private void ObeySocketOptions()
    {
        if (_companion.Options.Refusal is { } refusal)
            _plan.Refuse(refusal);
        else if (_companion.Options.Device is { } device)
            _plan.Keep(device);
    }

    // New connections become the kernel's before the kernel stops taking them.
    private async Task StopAcceptingAsync()
    {
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        CleanUp end = End;
        end.Do(() => _plan.Drain(_binding));
        await end.DoAsync(_companion.StopAsync).ConfigureAwait(false);
        _accepted.Writer.TryComplete();
    }
}
