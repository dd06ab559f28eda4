namespace Kestrel.Transport.Xdp;

/// <summary>To which addresses of the machine segments are served on an interface.</summary>
public enum LocalAddresses
{
    /// <summary>
    /// The interface's own. And where an endpoint names an address that is kept on the loopback or on a dummy
    /// interface, that one.
    /// </summary>
    Interface,

    /// <summary>
    /// Those of all interfaces of the network namespace, also for wildcard endpoints. Linux takes them on any
    /// interface.
    /// </summary>
    All,
}
