using System.Buffers;
using System.Collections;
using System.IO.Pipelines;
using System.Net;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http.Features;

namespace Kestrel.Transport.Xdp.Internal;

// The connection is its own feature collection: what a transport provides is in fields, what Kestrel and middleware add (heartbeat, TLS, metrics …) is
// a short list. Not synchronised, as no feature collection is.
internal sealed partial class XdpConnection : IFeatureCollection, IConnectionIdFeature, IConnectionTransportFeature, IConnectionItemsFeature,
    IMemoryPoolFeature, IConnectionLifetimeFeature, IConnectionEndPointFeature, IXdpConnectionFeature
{
    private string? _connectionId;
    private IDictionary<object, object?>? _items;
    private FeatureSlots _features;
    private List<KeyValuePair<Type, object>>? _moreFeatures;
    private int _featureRevision;

    private struct FeatureSlots
    {
        public IConnectionIdFeature? Id;
        public IConnectionTransportFeature? Transport;
        public IConnectionItemsFeature? Items;
        public IMemoryPoolFeature? MemoryPool;
        public IConnectionLifetimeFeature? Lifetime;
        public IConnectionEndPointFeature? EndPoint;
        public IXdpConnectionFeature? Xdp;
    }

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

    public override CancellationToken ConnectionClosed { get; set; }

    public override EndPoint? LocalEndPoint { get; set; }

    public override EndPoint? RemoteEndPoint { get; set; }

    MemoryPool<byte> IMemoryPoolFeature.MemoryPool => _settings.MemoryPool;

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
        if (_features.Id is { } id)
            yield return new(typeof(IConnectionIdFeature), id);
        if (_features.Transport is { } transport)
            yield return new(typeof(IConnectionTransportFeature), transport);
        if (_features.Items is { } items)
            yield return new(typeof(IConnectionItemsFeature), items);
        if (_features.MemoryPool is { } memoryPool)
            yield return new(typeof(IMemoryPoolFeature), memoryPool);
        if (_features.Lifetime is { } lifetime)
            yield return new(typeof(IConnectionLifetimeFeature), lifetime);
        if (_features.EndPoint is { } endPoint)
            yield return new(typeof(IConnectionEndPointFeature), endPoint);
        if (_features.Xdp is { } xdp)
            yield return new(typeof(IXdpConnectionFeature), xdp);
        if (_moreFeatures is not null)
        {
            foreach (KeyValuePair<Type, object> feature in _moreFeatures)
                yield return feature;
        }
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    private void InitializeFeatures()
    {
        _features.Id = this;
        _features.Transport = this;
        _features.Items = this;
        _features.MemoryPool = this;
        _features.Lifetime = this;
        _features.EndPoint = this;
        _features.Xdp = this;
    }

    private object? GetFeature(Type key)
    {
        if (key == typeof(IConnectionIdFeature))
            return _features.Id;
        if (key == typeof(IConnectionTransportFeature))
            return _features.Transport;
        if (key == typeof(IConnectionItemsFeature))
            return _features.Items;
        if (key == typeof(IMemoryPoolFeature))
            return _features.MemoryPool;
        if (key == typeof(IConnectionLifetimeFeature))
            return _features.Lifetime;
        if (key == typeof(IConnectionEndPointFeature))
            return _features.EndPoint;
        if (key == typeof(IXdpConnectionFeature))
            return _features.Xdp;
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
        if (key == typeof(IConnectionIdFeature))
            _features.Id = (IConnectionIdFeature?)value;
        else if (key == typeof(IConnectionTransportFeature))
            _features.Transport = (IConnectionTransportFeature?)value;
        else if (key == typeof(IConnectionItemsFeature))
            _features.Items = (IConnectionItemsFeature?)value;
        else if (key == typeof(IMemoryPoolFeature))
            _features.MemoryPool = (IMemoryPoolFeature?)value;
        else if (key == typeof(IConnectionLifetimeFeature))
            _features.Lifetime = (IConnectionLifetimeFeature?)value;
        else if (key == typeof(IConnectionEndPointFeature))
            _features.EndPoint = (IConnectionEndPointFeature?)value;
        else if (key == typeof(IXdpConnectionFeature))
            _features.Xdp = (IXdpConnectionFeature?)value;
        else
            SetOther(key, value);
    }

    private void SetOther(Type key, object? value)
    {
        _moreFeatures ??= new List<KeyValuePair<Type, object>>(4);
        int index = _moreFeatures.FindIndex(feature => feature.Key == key);
        if (value is null)
        {
            if (index >= 0)
                _moreFeatures.RemoveAt(index);
        }
        else if (index >= 0)
        {
            _moreFeatures[index] = new(key, value);
        }
        else
        {
            _moreFeatures.Add(new(key, value));
        }
    }
}
