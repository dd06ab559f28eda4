using System.Diagnostics.CodeAnalysis;
using System.Globalization;

namespace Xdp.Sockets.Interop;

/// <summary>
/// What the kernel goes by when it lets a thread use AF_XDP and BPF, or refuses. What /proc does not tell is taken to
/// be in order.
/// </summary>
/// <param name="Capabilities">The effective set.</param>
/// <param name="InitialUserNamespace">Only there do capabilities count for BPF and for the memory lock.</param>
/// <param name="IsFiltered">The thread has a seccomp filter.</param>
/// <param name="KernelHasAfXdp">Null when that cannot be told.</param>
/// <param name="MemoryLock">RLIMIT_MEMLOCK in bytes; null when there is none.</param>
internal sealed record ProcessFacts(
    ulong Capabilities, bool InitialUserNamespace, bool IsFiltered, bool? KernelHasAfXdp, long? MemoryLock)
{
    private const int CAP_NET_ADMIN = 12, CAP_NET_RAW = 13, CAP_IPC_LOCK = 14, CAP_SYS_ADMIN = 21, CAP_BPF = 39;

    // PROC_USER_INIT_INO of linux/proc_ns.h.
    private const string InitialNamespace = "user:[4026531837]";

    private const string HowToGrant = "(AmbientCapabilities= of systemd, --cap-add of a container, or setcap)";

    private const string OtherUserNamespace =
        "this process is in a user namespace of its own (a rootless container, for instance), where CAP_BPF and "
        + "CAP_NET_ADMIN do not count: BPF wants them in the initial one";

    /// <summary>How many bytes may be pinned; null: as many as there are.</summary>
    internal long? MemoryLockLimit => InitialUserNamespace && Has(CAP_IPC_LOCK) ? null : MemoryLock;

    /// <summary>Of the calling thread.</summary>
    internal static ProcessFacts Read() => Parse(
        Text("/proc/thread-self/status"),
        LinkOf("/proc/thread-self/ns/user"),
        Text("/proc/thread-self/net/protocols"),
        Text("/proc/self/limits"));

    internal static ProcessFacts Parse(string status, string? userNamespace, string protocols, string limits)
    {
        string? effective = Field(status, "CapEff:");
        string? filter = Field(status, "Seccomp:");
        string? locked = Field(limits, "Max locked memory")?.Split(' ')[0];
        return new ProcessFacts(
            effective is null ? ulong.MaxValue : ulong.Parse(effective, NumberStyles.HexNumber, null),
            userNamespace is null or InitialNamespace,
            filter is "2", // SECCOMP_MODE_FILTER
            protocols.Length == 0 ? null : Field(protocols, "XDP ") is not null,
            long.TryParse(locked, NumberStyles.None, null, out long bytes) ? bytes : null);
    }

    /// <summary>All that is missing, given what the two calls were answered: 0 or an errno.</summary>
    internal IReadOnlyList<string> Missing(int socketErrno, int bpfErrno)
    {
        var missing = new List<string>();
        if (MissingCapabilities() is { } capabilities)
            missing.Add(capabilities);
        if (!InitialUserNamespace && bpfErrno == ErrnoNames.EPERM)
            missing.Add(OtherUserNamespace);
        else if (bpfErrno == ErrnoNames.EPERM && HasForBpf)
            missing.Add($"{Forbidden} bpf(2)");
        else if (bpfErrno == ErrnoNames.ENOSYS)
            missing.Add("bpf(2) is missing in this kernel, or on this type of machine");
        if (socketErrno != 0 && (socketErrno != ErrnoNames.EPERM || Has(CAP_NET_RAW)))
            missing.Add(WhyNoSocket(socketErrno) ?? $"socket(AF_XDP) fails with {ErrnoNames.Name(socketErrno)}");
        return missing;
    }

    /// <summary>Why socket(AF_XDP) was refused, and what to do; null when nothing is known.</summary>
    internal string? WhyNoSocket(int errno) => errno switch
    {
        ErrnoNames.EPERM when !Has(CAP_NET_RAW) => $"CAP_NET_RAW is missing {HowToGrant}",
        ErrnoNames.EPERM when !InitialUserNamespace =>
            "AF_XDP sockets want CAP_NET_RAW in the user namespace that owns the network namespace, or "
            + $"{Forbidden} AF_XDP sockets",
        ErrnoNames.EAFNOSUPPORT when KernelHasAfXdp == false =>
            "the kernel has no AF_XDP: it wants CONFIG_XDP_SOCKETS=y. gVisor and WSL 1 have none",
        ErrnoNames.EPERM or ErrnoNames.EACCES or ErrnoNames.EAFNOSUPPORT =>
            $"{Forbidden} AF_XDP sockets (RestrictAddressFamilies= of systemd must name AF_XDP; a container's seccomp "
            + "profile must allow them)",
        _ => null,
    };

    /// <summary>Why bpf(2) answered EPERM, and what to do.</summary>
    internal string WhyNoBpf() =>
        !InitialUserNamespace ? OtherUserNamespace
        : HasForBpf ? $"{Forbidden} bpf(2); before Linux 5.11 it also wants a higher RLIMIT_MEMLOCK"
        : $"BPF wants CAP_BPF and CAP_NET_ADMIN; {MissingCapabilities()}";

    /// <summary>A reason as a sentence of its own.</summary>
    [return: NotNullIfNotNull(nameof(reason))]
    internal static string? Sentence(string? reason) =>
        reason is null ? null : char.ToUpperInvariant(reason[0]) + reason[1..];

    // A filter is the likely cause where there is one.
    private string Forbidden =>
        IsFiltered ? "a seccomp filter forbids" : "a security policy (seccomp, SELinux, AppArmor, lockdown) forbids";

    private bool HasForBpf => (Has(CAP_BPF) && Has(CAP_NET_ADMIN)) || Has(CAP_SYS_ADMIN);

    private bool Has(int capability) => (Capabilities >> capability & 1) != 0;

    private string? MissingCapabilities()
    {
        // In another user namespace, those for BPF would not count.
        bool forBpf = HasForBpf || !InitialUserNamespace;
        var names = new List<string>();
        if (!Has(CAP_NET_RAW))
            names.Add("CAP_NET_RAW");
        if (!forBpf && !Has(CAP_NET_ADMIN))
            names.Add("CAP_NET_ADMIN");
        if (!forBpf && !Has(CAP_BPF))
            names.Add("CAP_BPF");
        return names.Count switch
        {
            0 => null,
            1 => $"{names[0]} is missing {HowToGrant}",
            _ => $"{string.Join(", ", names[..^1])} and {names[^1]} are missing {HowToGrant}",
        };
    }

    private static string? Field(string text, string name) =>
        text.Split('\n').FirstOrDefault(line => line.StartsWith(name, StringComparison.Ordinal))?[name.Length..].Trim();

    private static string Text(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    private static string? LinkOf(string path)
    {
        try
        {
            return new FileInfo(path).LinkTarget;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
