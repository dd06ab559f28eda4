namespace Xdp.TcpLite;

/// <summary>The addresses and ports that accept connections: LISTEN of RFC 9293.</summary>
/// <param name="backlog">Each listener's: see <see cref="TcpStackOptions.Backlog"/>.</param>
internal sealed class Listeners(int backlog)
{
    private readonly Dictionary<(IpAddr Address, ushort Port), Listener> _listeners = [];

    /// <summary>
    /// Accepts connections to this address and port; the default address means every address. Idempotent.
    /// </summary>
    internal void Open(
        IpAddr local, ushort port, object? owner, Func<bool>? hasRoom = null, TcpStackOptions? options = null) =>
        _listeners.TryAdd((local, port), new Listener(owner, backlog, hasRoom, options));

    /// <summary>Accepts no new connections there.</summary>
    internal void Close(IpAddr local, ushort port)
    {
        if (_listeners.Remove((local, port), out Listener? listener))
            listener.Close();
    }

    /// <summary>Options of the listeners' own follow the interface's MTU.</summary>
    internal void ChangeMtu(int mtu, int? receiveMtu)
    {
        foreach (Listener listener in _listeners.Values)
            listener.ChangeMtu(mtu, receiveMtu);
    }

    /// <summary>
    /// Who accepts a connection with this 4-tuple: the address's own listener before that of every address.
    /// </summary>
    internal Listener? Find(in FlowKey flow) =>
        _listeners.TryGetValue((flow.Local, flow.LocalPort), out Listener? listener)
        || _listeners.TryGetValue((default, flow.LocalPort), out listener)
            ? listener
            : null;
}
