using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Tests;

/// <summary>What /proc tells, and what is made of it.</summary>
public class ProcessFactsTests
{
    private const string
        AllCapabilities = "000001ffffffffff",
        NoCapabilities = "0000000000000000",
        Three = "0000008000003000", // CAP_NET_ADMIN 12, CAP_NET_RAW 13, CAP_BPF 39
        SysAdminAndNetRaw = "0000000000202000",
        OtherNamespace = "user:[4026532221]";

    private static ProcessFacts Facts(
        string capabilities, string? userNamespace = "user:[4026531837]", bool filtered = false, bool afXdp = true,
        string locked = "8388608") =>
        ProcessFacts.Parse(
            $"Name:\tdotnet\nCapPrm:\t{NoCapabilities}\nCapEff:\t{capabilities}\nSeccomp:\t{(filtered ? 2 : 0)}\n"
                + "Seccomp_filters:\t1\n",
            userNamespace,
            "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re bi br ha "
                + $"uh gp em\n{(afXdp ? "XDP        960      0      -1   NI       0   no   kernel\n" : "")}"
                + "PACKET    1536      0      -1   NI       0   no   kernel\n",
            "Limit                     Soft Limit           Hard Limit           Units\n"
                + $"Max locked memory         {locked,-20} unlimited            bytes\n");

    [Fact]
    public void Parse_Nothing_IsInOrder()
    {
        ProcessFacts facts = ProcessFacts.Parse("", null, "", "");
        Assert.Empty(facts.Missing(0, 0));
        Assert.Null(facts.MemoryLockLimit);
        Assert.Null(facts.KernelHasAfXdp);
    }

    [Theory]
    [InlineData(Three, 8388608L)]
    [InlineData(AllCapabilities, null)]
    public void MemoryLockLimit_HoldsWithoutIpcLock(string capabilities, long? limit)
    {
        Assert.Equal(limit, Facts(capabilities).MemoryLockLimit);
        Assert.Null(Facts(capabilities, locked: "unlimited").MemoryLockLimit);
        // A user namespace's own CAP_IPC_LOCK does not count.
        Assert.Equal(8388608, Facts(capabilities, OtherNamespace).MemoryLockLimit);
    }

    [Theory]
    [InlineData(Three)]
    [InlineData(AllCapabilities)]
    [InlineData(SysAdminAndNetRaw)]
    public void Missing_WhatIsAskedForIsThere_Nothing(string capabilities) =>
        Assert.Empty(Facts(capabilities).Missing(0, 0));

    [Fact]
    public void Missing_AllCapabilities_AreInOneSentence()
    {
        string only = Assert.Single(Facts(NoCapabilities).Missing(ErrnoNames.EPERM, ErrnoNames.EPERM));
        Assert.StartsWith("CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF are missing", only, StringComparison.Ordinal);
    }

    [Fact]
    public void Missing_UserNamespace_IsNotAQuestionOfCapabilities()
    {
        string only = Assert.Single(Facts(AllCapabilities, OtherNamespace).Missing(0, ErrnoNames.EPERM));
        Assert.Contains("user namespace", only, StringComparison.Ordinal);
        Assert.DoesNotContain("missing", only, StringComparison.Ordinal);
        Assert.Contains(
            "user namespace", Facts(AllCapabilities, OtherNamespace).WhyNoBpf(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(ErrnoNames.EPERM)]
    [InlineData(ErrnoNames.EACCES)]
    [InlineData(ErrnoNames.EAFNOSUPPORT)]
    public void Missing_SocketIsForbidden_IsNotTheKernelsFault(int errno)
    {
        string only = Assert.Single(Facts(Three, filtered: true).Missing(errno, 0));
        Assert.StartsWith("a seccomp filter forbids AF_XDP sockets", only, StringComparison.Ordinal);
        Assert.Contains("RestrictAddressFamilies=", only, StringComparison.Ordinal);
        only = Assert.Single(Facts(Three).Missing(errno, 0));
        Assert.StartsWith("a security policy", only, StringComparison.Ordinal);
        Assert.Contains("AF_XDP", only, StringComparison.Ordinal);
    }

    [Fact]
    public void Missing_KernelHasNoAfXdp_IsSaid() => Assert.Contains(
        "CONFIG_XDP_SOCKETS", Assert.Single(Facts(Three, afXdp: false).Missing(ErrnoNames.EAFNOSUPPORT, 0)),
        StringComparison.Ordinal);

    [Fact]
    public void Missing_Several_AreAllListed()
    {
        IReadOnlyList<string> missing = Facts("0000000000002000", filtered: true).Missing(
            ErrnoNames.EAFNOSUPPORT, ErrnoNames.EPERM);
        Assert.Equal(2, missing.Count);
        Assert.StartsWith("CAP_NET_ADMIN and CAP_BPF are missing", missing[0], StringComparison.Ordinal);
        Assert.StartsWith("a seccomp filter forbids AF_XDP sockets", missing[1], StringComparison.Ordinal);
    }

    [Fact]
    public void Missing_BpfIsForbidden_IsSaid()
    {
        string only = Assert.Single(Facts(Three, filtered: true).Missing(0, ErrnoNames.EPERM));
        Assert.StartsWith("a seccomp filter forbids bpf(2)", only, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(ErrnoNames.EAFNOSUPPORT, "CONFIG_XDP_SOCKETS")]
    [InlineData(ErrnoNames.EPERM, "CAP_NET_RAW")]
    public void SocketError_Hint_SaysWhatToDo(int errno, string hint) => Assert.Contains(
        hint, XskSetup.SocketError(errno, Facts(NoCapabilities, afXdp: false)).Message, StringComparison.Ordinal);
}
