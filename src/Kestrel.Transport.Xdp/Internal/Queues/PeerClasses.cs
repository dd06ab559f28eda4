using System.Net;
using System.Net.Sockets;
using Xdp.Sockets.Net;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// Which peers the kernel routes alike: those that lie in the same prefixes, of all that its tables and rules mention.
/// The longest of these tells them all. So one answer of the kernel serves a whole class of peers. Any thread.
/// </summary>
internal sealed class PeerClasses
{
    /// <summary>Nothing is known: each peer is alone.</summary>
    internal static readonly PeerClasses None = new(new RouteDistinctions(null, DependsOnPorts: true));

    /// <summary>Bits before an IPv4 prefix, which is IPv4-mapped here.</summary>
    internal const int BitsBeforeIPv4 = 96;

    internal const int WholeAddress = 128;

    // What the kernel looks at besides its tables: addresses that nobody may send from.
    private static readonly RoutePrefix[] s_always =
    [
        new(IPAddress.Any, 0, false), new(IPAddress.Any, 8, false), new(new([127, 0, 0, 0]), 8, false),
        new(new([224, 0, 0, 0]), 4, false), new(IPAddress.Broadcast, 32, false),
        new(IPAddress.IPv6Any, 0, false), new(IPAddress.IPv6Any, 128, false), new(IPAddress.IPv6Loopback, 128, false),
        new(new([0xFE, 0x80, .. new byte[14]]), 10, false), new(new([0xFF, .. new byte[15]]), 8, false),
    ];

    // By length, the longest first.
    private readonly Class[] _ipv4 = [], _ipv6 = [];

    /// <param name="Length">Bits of the prefixes.</param>
    /// <param name="Prefixes">With each, whether the kernel chooses a next hop for each peer.</param>
    private sealed record Class(int Length, Dictionary<IpAddr, bool> Prefixes);

    internal PeerClasses(RouteDistinctions distinctions)
    {
        DependsOnPorts = distinctions.DependsOnPorts;
        if (distinctions.Prefixes is not { } prefixes)
            return;
        _ipv4 = ByLength(prefixes, AddressFamily.InterNetwork, BitsBeforeIPv4);
        _ipv6 = ByLength(prefixes, AddressFamily.InterNetworkV6, 0);
    }

    /// <summary>The kernel may route the flows of one peer differently.</summary>
    internal bool DependsOnPorts { get; }

    /// <summary>The class of a peer, as its prefix with zeros behind it; null when the peer is alone.</summary>
    internal (IpAddr Prefix, int Length)? Find(IpAddr peer)
    {
        foreach (var (length, prefixes) in peer.IsIPv4 ? _ipv4 : _ipv6)
        {
            IpAddr prefix = Cut(peer, length);
            if (prefixes.TryGetValue(prefix, out bool isSplit))
                return isSplit ? null : (prefix, length);
        }
        return null;
    }

    /// <summary>The class and all those within it; null when these are more than <paramref name="most"/>.</summary>
    internal IReadOnlyList<(IpAddr Prefix, int Length)>? Within(IpAddr prefix, int length, int most)
    {
        var found = new List<(IpAddr, int)>();
        foreach (var (other, prefixes) in prefix.IsIPv4 ? _ipv4 : _ipv6)
        {
            if (other < length)
                continue;
            foreach (IpAddr candidate in prefixes.Keys)
            {
                if (Cut(candidate, length) != prefix)
                    continue;
                found.Add((candidate, other));
                if (found.Count > most)
                    return null;
            }
        }
        return found;
    }

    private static Class[] ByLength(IReadOnlyList<RoutePrefix> prefixes, AddressFamily family, int bitsBefore)
    {
        var byLength = new Dictionary<IpAddr, bool>?[WholeAddress + 1];
        Add(prefixes);
        Add(s_always);
        var classes = new List<Class>();
        for (int length = WholeAddress; length >= 0; length--)
        {
            if (byLength[length] is { } ofLength)
                classes.Add(new(length, ofLength));
        }
        return [.. classes];

        void Add(IReadOnlyList<RoutePrefix> prefixes)
        {
            foreach (RoutePrefix prefix in prefixes)
            {
                if (prefix.Address.AddressFamily != family)
                    continue;
                int length = prefix.Length + bitsBefore;
                Dictionary<IpAddr, bool> ofLength = byLength[length] ??= [];
                IpAddr address = Cut(IpAddr.From(prefix.Address), length);
                ofLength[address] = prefix.HasSeveralHops || ofLength.GetValueOrDefault(address);
            }
        }
    }

    private static IpAddr Cut(IpAddr address, int length) => length >= 64
        ? address with { Low = address.Low & UpperBits(length - 64) }
        : new(address.High & UpperBits(length), 0);

    private static ulong UpperBits(int count) => count == 0 ? 0 : ulong.MaxValue << (64 - count);
}
