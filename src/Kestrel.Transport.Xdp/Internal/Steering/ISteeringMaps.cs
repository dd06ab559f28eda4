using System.Net;

namespace Kestrel.Transport.Xdp.Internal.Steering;

/// <summary>What the control path changes in the maps of an interface's program, one call at a time.</summary>
internal interface ISteeringMaps
{
    /// <summary>
    /// Puts an endpoint into a mode, adding it when it is new. The address is one of the interface's, never a wildcard;
    /// IPv4-mapped means IPv4. VLAN: 0 untagged; the tag's id; <c>outer &lt;&lt; 12 | inner</c> with two tags.
    /// </summary>
    void SetEndpoint(IPAddress local, int port, int vlan, SteeringMode mode);

    /// <returns>False when there was no such endpoint.</returns>
    bool RemoveEndpoint(IPAddress local, int port, int vlan);

    /// <summary>Hands the packets of a queue to a bound AF_XDP socket.</summary>
    void SetXsk(int queue, int xsk);

    /// <summary>
    /// Peers whose SYNs are the kernel's: the longest prefix of each decides. Replaces those before.
    /// </summary>
    void SetPeersElsewhere(IReadOnlyDictionary<EndpointPeers, bool> peers);

    /// <returns>False when the queue had none. A socket that closes leaves the map by itself.</returns>
    bool ClearXsk(int queue);

    /// <summary>
    /// Limits the SYNs a queue's socket gets; what is above is dropped and counted. A rate of 0 is no limit. The burst,
    /// at least 1, is how many may come at once after a pause.
    /// </summary>
    void SetSynRate(int queue, long perSecond, long burst);
}
