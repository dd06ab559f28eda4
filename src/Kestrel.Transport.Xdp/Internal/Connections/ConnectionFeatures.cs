using System.Buffers;
using System.Collections;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http.Features;

namespace Kestrel.Transport.Xdp.Internal.Connections;

/// <summary>
/// A connection that is its own feature collection. What a transport provides is the connection itself; what Kestrel
/// and middleware add (heartbeat, TLS, metrics …) is a short list. Not synchronised, as no feature collection is.
/// </summary>
internal abstract class ConnectionFeatures
    : ConnectionContext, IFeatureCollection, IConnectionIdFeature, IConnectionTransportFeature, IConnectionItemsFeature,
    IMemoryPoolFeature, IConnectionEndPointFeature
{
    // The interfaces of XdpConnection, which is this class's only heir.
    private static readonly Type[] s_provided =
    [
        typeof(IConnectionIdFeature), typeof(IConnectionTransportFeature), typeof(IConnectionItemsFeature),
        typeof(IMemoryPoolFeature), typeof(IConnectionLifetimeFeature), typeof(IConnectionEndPointFeature),
        typeof(IXdpConnectionFeature),
    ];

    private string? _connectionId;
    private IDictionary<object, object?>? _items;

    /// <summary>Which of <see cref="s_provided"/> nobody has replaced or removed, a bit for each.</summary>
    private byte _provided = (byte)((1 << s_provided.Length) - 1);
    private List<KeyValuePair<Type, object>>? _moreFeatures;
    private int _featureRevision;

    public override IFeatureCollection Features => this;

    public override string ConnectionId
    {
        get => _connectionId ??= Connections.ConnectionId.Next();
        set => _connectionId = value;
    }

    public override IDictionary<object, object?> Items
    {
        get => _items ??= new ConnectionItems();
        set => _items = value;
    }

    /// <summary>What the application is told to rent memory from.</summary>
    private protected abstract MemoryPool<byte> MemoryPool { get; }

    MemoryPool<byte> IMemoryPoolFeature.MemoryPool => MemoryPool;

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

    void IFeatureCollection.Set<TFeature>(TFeature? instance) where TFeature : default =>
        SetFeature(typeof(TFeature), instance);

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
