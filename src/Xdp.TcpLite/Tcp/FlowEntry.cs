namespace Xdp.TcpLite;

/// <summary>What the stack knows about a 4-tuple: a half-open record, a connection, or a TIME-WAIT record.</summary>
public abstract class FlowEntry : TimerEntry
{
    /// <summary>The same as <see cref="Flow"/>, as a field: it can be passed by reference, without a copy.</summary>
    internal readonly FlowKey Key;

    private protected FlowEntry(in FlowKey flow) => Key = flow;

    public FlowKey Flow => Key;
}
