using System.Buffers;
using System.Collections;
using System.IO.Pipelines;
using System.Net;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http.Features;

namespace Kestrel.Transport.Xdp.Internal;

// The connection is its own feature collection: what a transport provides is the connection itself, what Kestrel and middleware add (heartbeat, TLS,
// metrics …) is a short list. Not synchronised, as no feature collection is.
internal sealed partial class XdpConnection : IFeatureCollection, IConnectionIdFeature, IConnectionTransportFeature, IConnectionItemsFeature,
    IMemoryPoolFeature, IConnectionLifetimeFeature, IConnectionEndPointFeature, IXdpConnectionFeature
{
    private static readonly Type[] s_provided =
    [
        typeof(IConnectionIdFeature), typeof(IConnectionTransportFeature), typeof(IConnectionItemsFeature), typeof(IMemoryPoolFeature),
        typeof(IConnectionLifetimeFeature), typeof(IConnectionEndPointFeature), typeof(IXdpConnectionFeature),
    ];

    private string? _connectionId;
    private IDictionary<object, object?>? _items;
    private CancellationTokenSource? _closedSource;
    private bool _closedTokenGiven;

    /// <summary>Which of <see cref="s_provided"/> nobody has replaced or removed, a bit for each.</summary>
    private byte _provided = (byte)((1 << s_provided.Length) - 1);
    private List<KeyValuePair<Type, object>>? _moreFeatures;
    private int _featureRevision;

    public override IFeatureCollection Features => this;

    public override string ConnectionId
    {
        get => _connectionId ??= XdpConnectionId.Next();
        set => _connectionId = value;
    }

    /// <summary>What the application reads and writes: this connection's pipes, or what wraps them.</summary>
    public override IDuplexPipe Transport { get; set; }

    public override IDictionary<object, object?> Items
    {
        get => _items ??= new ConnectionItems();
        set => _items = value;
    }

    public override CancellationToken ConnectionClosed
    {
        get
        {
            lock (Gate)
            {
                if (!_closedTokenGiven)
                {
                    _closedTokenGiven = true;
                    base.ConnectionClosed = Has(Ends.ClosedFired) ? new CancellationToken(canceled: true) : (_closedSource = new()).Token;
                }
                return base.ConnectionClosed;
            }
        }
        set
        {
            lock (Gate)
            {
                _closedTokenGiven = true;
                base.ConnectionClosed = value;
            }
        }
    }

    public override EndPoint? LocalEndPoint
    {
        get => base.LocalEndPoint ??= _tcp is null ? null : Settings.EndPointOf(_tcp.Flow.Local, _tcp.Flow.LocalPort);
        set => base.LocalEndPoint = value;
    }

    public override EndPoint? RemoteEndPoint
    {
        get => base.RemoteEndPoint ??= _tcp is null ? null : Settings.EndPointOf(_tcp.Flow.Remote, _tcp.Flow.RemotePort);
        set => base.RemoteEndPoint = value;
    }

    MemoryPool<byte> IMemoryPoolFeature.MemoryPool => Settings.MemoryPool;

    void IConnectionLifetimeFeature.Abort() =>
        Abort(new ConnectionAbortedException("The connection was aborted by the application via IConnectionLifetimeFeature.Abort()."));

    bool IFeatureCollection.IsReadOnly => false;

    int IFeatureCollection.Revision => _featureRevision;

    object? IFeatureCollection.this[Type key]
    {
        get
        {
            ArgumentNullException.ThrowIfNull(key);
            return GetFeature(key);
        }
        set
        {
            ArgumentNullException.ThrowIfNull(key);
            SetFeature(key, value);
        }
    }

    TFeature? IFeatureCollection.Get<TFeature>() where TFeature : default => (TFeature?)GetFeature(typeof(TFeature));

    void IFeatureCollection.Set<TFeature>(TFeature? instance) where TFeature : default => SetFeature(typeof(TFeature), instance);

    public IEnumerator<KeyValuePair<Type, object>> GetEnumerator()
    {
        for (int i = 0; i < s_provided.Length; i++)
        {
            if (Provides(i))
                yield return new(s_provided[i], this);
        }
        if (_moreFeatures is not null)
        {
            foreach (KeyValuePair<Type, object> feature in _moreFeatures)
                yield return feature;
        }
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    private void CancelClosedSource()
    {
        CancellationTokenSource? source;
        lock (Gate)
            source = _closedSource;
        source?.Cancel();
    }

    private static int IndexOfProvided(Type key)
    {
        for (int i = 0; i < s_provided.Length; i++)
        {
            if (s_provided[i] == key)
                return i;
        }
        return -1;
    }

    private bool Provides(int index) => index >= 0 && (_provided & (1 << index)) != 0;

    private object? GetFeature(Type key)
    {
        if (Provides(IndexOfProvided(key)))
            return this;
        if (_moreFeatures is not null)
        {
            foreach (KeyValuePair<Type, object> feature in _moreFeatures)
            {
                if (feature.Key == key)
                    return feature.Value;
            }
        }
        return null;
    }

    private void SetFeature(Type key, object? value)
    {
        _featureRevision++;
        if (IndexOfProvided(key) is >= 0 and int provided)
        {
            int bit = 1 << provided;
            if (value == this)
            {
                _provided |= (byte)bit;
                value = null;
            }
            else
            {
                _provided &= (byte)~bit;
            }
        }
        int index = _moreFeatures?.FindIndex(feature => feature.Key == key) ?? -1;
        if (value is null)
        {
            if (index >= 0)
                _moreFeatures!.RemoveAt(index);
        }
        else if (index >= 0)
        {
            _moreFeatures![index] = new(key, value);
        }
        else
        {
            (_moreFeatures ??= new(4)).Add(new(key, value));
        }
    }
}
