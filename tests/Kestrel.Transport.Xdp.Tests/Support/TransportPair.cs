using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Logging.Abstractions;

namespace Kestrel.Transport.Xdp.Tests.Support;

/// <summary>A transport's connection and the client at its other end.</summary>
internal abstract class TransportPair : IAsyncDisposable
{
    public abstract ConnectionContext Server { get; }
    public abstract Stream Client { get; }
    public abstract void ClientFin();
    public abstract void ClientReset();

    /// <summary>Disposes both, and checks that nothing is left behind.</summary>
    public abstract ValueTask DisposeAsync();
}

/// <summary>Kestrel's socket transport over loopback: the oracle.</summary>
internal sealed class SocketPair : TransportPair
{
    private readonly Socket _client;
    private readonly SocketConnectionContextFactory _factory;

    public SocketPair(long? maxRead, long? maxWrite)
    {
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        _client = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        _client.Connect(listener.LocalEndPoint!);
        Socket accepted = listener.Accept();
        accepted.NoDelay = true;
        _factory = new SocketConnectionContextFactory(
            new SocketConnectionFactoryOptions { MaxReadBufferSize = maxRead, MaxWriteBufferSize = maxWrite },
            NullLogger.Instance);
        Server = _factory.Create(accepted);
        Client = new NetworkStream(_client, ownsSocket: true);
    }

    public override ConnectionContext Server { get; }
    public override Stream Client { get; }

    public override void ClientFin() => _client.Shutdown(SocketShutdown.Send);

    public override void ClientReset() => _client.Close(0);

    public override async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await Server.DisposeAsync();
        _factory.Dispose();
    }
}

/// <summary>This transport's connection over a <see cref="FakeQueue"/> with a thread of its own.</summary>
internal sealed class XdpPair : TransportPair
{
    private readonly FakeQueue _queue = new();
    private readonly FakePeer _peer;

    public XdpPair(long? maxRead, long? maxWrite, bool frames, bool inline)
    {
        Inline = inline;
        _queue.StartWorker();
        _peer = _queue.Connect(
            _queue.Settings(frames, inline) with { MaxReadBufferSize = maxRead, MaxWriteBufferSize = maxWrite },
            receiveIntoFrames: frames);
        Client = _peer.AsStream();
    }

    public bool Inline { get; }

    /// <summary>The test causes something that is rightly logged above Debug.</summary>
    public bool ExpectsErrors { get; set; }
    public override ConnectionContext Server => _peer.Connection;
    public override Stream Client { get; }

    public override void ClientFin() => _peer.SendFin();

    public override void ClientReset() => _peer.SendReset();

    public override async ValueTask DisposeAsync()
    {
        await _peer.Connection.DisposeAsync();
        // An abort while the peer leaves bytes unread is what ends them.
        _peer.SendReset();
        _queue.Turn();
        _queue.Dispose();
        Assert.Equal(ExpectsErrors, _queue.Logger.AboveDebug.Count > 0);
        _queue.AssertAllHome();
    }
}
