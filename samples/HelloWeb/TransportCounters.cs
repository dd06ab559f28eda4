using System.Collections.Concurrent;
using System.Diagnostics.Metrics;

namespace HelloWeb;

/// <summary>
/// The current value of everything the transport measures, taken from its public meter. Counters are totals since
/// start, gauges their last value; a histogram shows as its <c>.count</c> and <c>.sum</c>.
/// </summary>
internal sealed class TransportCounters : IDisposable
{
    private const string MeterName = "Kestrel.Transport.Xdp";

    private readonly ConcurrentDictionary<string, double> _values = new();
    private readonly MeterListener _listener = new();

    public TransportCounters()
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == MeterName)
                listener.EnableMeasurementEvents(instrument);
        };
        _listener.SetMeasurementEventCallback<byte>((instrument, value, tags, _) => Record(instrument, value, tags));
        _listener.SetMeasurementEventCallback<short>((instrument, value, tags, _) => Record(instrument, value, tags));
        _listener.SetMeasurementEventCallback<int>((instrument, value, tags, _) => Record(instrument, value, tags));
        _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Record(instrument, value, tags));
        _listener.SetMeasurementEventCallback<float>((instrument, value, tags, _) => Record(instrument, value, tags));
        _listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Record(instrument, value, tags));
        _listener.SetMeasurementEventCallback<decimal>(
            (instrument, value, tags, _) => Record(instrument, (double)value, tags));
        _listener.Start();
    }

    /// <returns>Values by <c>instrument{tag=value,…}</c>, sorted by name; empty without the transport.</returns>
    public SortedDictionary<string, double> Snapshot()
    {
        _listener.RecordObservableInstruments();
        return new SortedDictionary<string, double>(_values, StringComparer.Ordinal);
    }

    public void Dispose() => _listener.Dispose();

    private void Record(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        string name = instrument.Name;
        if (!tags.IsEmpty)
        {
            var parts = new List<string>();
            foreach (var tag in tags)
                parts.Add($"{tag.Key}={tag.Value}");
            name += $"{{{string.Join(',', parts)}}}";
        }

        var kind = instrument.GetType().GetGenericTypeDefinition();
        if (kind == typeof(Counter<>) || kind == typeof(UpDownCounter<>))
        {
            Add(name, value);
        }
        else if (kind == typeof(Histogram<>))
        {
            Add($"{name}.count", 1);
            Add($"{name}.sum", value);
        }
        else
        {
            _values[name] = value;
        }
    }

    private void Add(string name, double value) => _values.AddOrUpdate(name, value, (_, sum) => sum + value);
}
