using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;

namespace Kestrel.Transport.Xdp.Internal.Options;

/// <summary>
/// Who may connect: <see cref="XdpTransportOptions.AllowedSources"/> and
/// <see cref="XdpTransportOptions.DeniedSources"/> as they were at one moment. Any thread.
/// </summary>
internal sealed class SourceLists
{
    /// <summary>Everybody may.</summary>
    internal static readonly SourceLists None = new([], []);

    // Null for none, which is the rule.
    private readonly AddressRanges? _allowed, _denied;

    internal SourceLists(IEnumerable<IPNetwork> allowed, IEnumerable<IPNetwork> denied)
    {
        Allowed = [.. allowed];
        Denied = [.. denied];
        _allowed = Allowed.Length > 0 ? new(Allowed) : null;
        _denied = Denied.Length > 0 ? new(Denied) : null;
    }

    /// <summary>Empty allows everybody.</summary>
    internal IPNetwork[] Allowed { get; }

    /// <summary>Who is on both lists is denied.</summary>
    internal IPNetwork[] Denied { get; }

    internal bool AreEmpty => Allowed.Length + Denied.Length == 0;

    internal static SourceLists From(XdpTransportOptions options) =>
        new(options.AllowedSources, options.DeniedSources);

    /// <summary>
    /// May it connect to a socket? Loopback always may, unless it is denied: whoever lists his clients does not think
    /// of the probes of his own machine.
    /// </summary>
    internal bool Admit(IPAddress source) =>
        _denied?.Contain(source) != true
        && (_allowed is null || IPAddress.IsLoopback(source.IsIPv4MappedToIPv6 ? source.MapToIPv4() : source)
            || _allowed.Contain(source));

    /// <summary>The name of the list that differs; null when both are equal.</summary>
    internal string? DifferenceTo(SourceLists other) =>
        AreEmpty && other.AreEmpty ? null
        : !Allowed.SequenceEqual(other.Allowed) ? nameof(XdpTransportOptions.AllowedSources)
        : !Denied.SequenceEqual(other.Denied) ? nameof(XdpTransportOptions.DeniedSources)
        : null;

    /// <summary>
    /// Lists that let in whom all of these do: hosts that share an interface change theirs one by one.
    /// </summary>
    internal static SourceLists Strictest(IReadOnlyList<SourceLists> all)
    {
        if (all.Count == 0)
            return None;
        SourceLists strictest = all[0];
        foreach (SourceLists lists in all.Skip(1))
        {
            if (lists.DifferenceTo(strictest) is not null)
                strictest = Both(strictest, lists);
        }
        return strictest;
    }

    /// <summary>For log lines: a sentence that begins with a blank; nothing when the lists are empty.</summary>
    internal string Describe()
    {
        if (AreEmpty)
            return "";
        string[] lists =
        [
            .. Count(Allowed, nameof(XdpTransportOptions.AllowedSources)),
            .. Count(Denied, nameof(XdpTransportOptions.DeniedSources)),
        ];
        string loopback = Admit(IPAddress.Loopback) && Admit(IPAddress.IPv6Loopback)
            ? "loopback is exempt"
            : "loopback is denied";
        return $" {string.Join(" and ", lists)} {(lists.Length > 1 ? "are" : "is")} in force, for sockets as well; "
            + $"{loopback}.";
    }

    private static IEnumerable<string> Count(IPNetwork[] list, string name) =>
        list.Length == 0 ? [] : [$"{name} ({list.Length})"];

    private static SourceLists Both(SourceLists one, SourceLists other)
    {
        IPNetwork[] denied = [.. one.Denied.Union(other.Denied)];
        if (one.Allowed.Length == 0 || other.Allowed.Length == 0)
            return new([.. one.Allowed, .. other.Allowed], denied);
        // Of two prefixes that have an address in common, one lies within the other.
        IPNetwork[] allowed =
        [
            .. one.Allowed.Where(network => other._allowed!.Contain(network))
                .Union(other.Allowed.Where(network => one._allowed!.Contain(network))),
        ];
        return allowed.Length > 0 ? new(allowed, denied) : new([], [new(IPAddress.IPv6Any, 0)]);
    }

    /// <summary>
    /// Prefixes as ranges that neither overlap nor touch, in order. As in the XDP program, IPv4 is IPv4-mapped.
    /// </summary>
    private sealed class AddressRanges
    {
        private readonly List<UInt128> _first = [], _last = [];

        internal AddressRanges(IEnumerable<IPNetwork> networks)
        {
            foreach ((UInt128 first, UInt128 last) in networks.Select(RangeOf).Order())
            {
                if (_last.Count > 0 && (_last[^1] == UInt128.MaxValue || first <= _last[^1] + 1))
                {
                    _last[^1] = UInt128.Max(_last[^1], last);
                    continue;
                }
                _first.Add(first);
                _last.Add(last);
            }
        }

        internal bool Contain(IPAddress address)
        {
            UInt128 number = NumberOf(address);
            return Contain(number, number);
        }

        internal bool Contain(IPNetwork network)
        {
            (UInt128 first, UInt128 last) = RangeOf(network);
            return Contain(first, last);
        }

        private bool Contain(UInt128 first, UInt128 last)
        {
            int found = _first.BinarySearch(first);
            int range = found >= 0 ? found : ~found - 1;
            return range >= 0 && last <= _last[range];
        }

        private static (UInt128 First, UInt128 Last) RangeOf(IPNetwork network)
        {
            bool ipv4 = network.BaseAddress.AddressFamily == AddressFamily.InterNetwork;
            int hostBits = (ipv4 ? 32 : 128) - network.PrefixLength;
            UInt128 rest = hostBits == 128 ? UInt128.MaxValue : (UInt128.One << hostBits) - 1;
            UInt128 first = NumberOf(network.BaseAddress) & ~rest;
            return (first, first | rest);
        }

        private static UInt128 NumberOf(IPAddress address)
        {
            Span<byte> bytes = stackalloc byte[16];
            address.MapToIPv6().TryWriteBytes(bytes, out _);
            return BinaryPrimitives.ReadUInt128BigEndian(bytes);
        }
    }
}

/// <summary>
/// A host's source lists as they are now. Its sockets and its interfaces look here, so both follow a change. Any
/// thread.
/// </summary>
internal sealed class SourceFilter(SourceLists lists)
{
    private volatile SourceLists _current = lists;

    internal SourceLists Current
    {
        get => _current;
        set => _current = value;
    }
}
