namespace Kestrel.Transport.Xdp.Internal.Steering;

/// <summary>
/// What became of the packets an interface received, summed over all CPUs since the program was loaded. Each packet is
/// in exactly one. Fields stand in the order of <c>enum steer_counter</c> in bpf/xdp_steer.h, which says what each one
/// means.
/// </summary>
internal readonly record struct SteeringCounters
{
    internal const int Count = (int)SteeringCounter.Count;

    /// <param name="values">In the order of the enum.</param>
    internal SteeringCounters(ReadOnlySpan<ulong> values)
    {
        PassNotOurMac = values[(int)SteeringCounter.PassNotOurMac];
        PassNotTcp = values[(int)SteeringCounter.PassNotTcp];
        PassMalformed = values[(int)SteeringCounter.PassMalformed];
        PassLaterFragment = values[(int)SteeringCounter.PassLaterFragment];
        PassNoEndpoint = values[(int)SteeringCounter.PassNoEndpoint];
        PassOff = values[(int)SteeringCounter.PassOff];
        PassKernelOwned = values[(int)SteeringCounter.PassKernelOwned];
        PassSynDrain = values[(int)SteeringCounter.PassSynDrain];
        PassSynNoXsk = values[(int)SteeringCounter.PassSynNoXsk];
        PassSynElsewhere = values[(int)SteeringCounter.PassSynElsewhere];
        PassIcmpKernelOwned = values[(int)SteeringCounter.PassIcmpKernelOwned];
        PassIcmpNoXsk = values[(int)SteeringCounter.PassIcmpNoXsk];
        DropSource = values[(int)SteeringCounter.DropSource];
        DropFragment = values[(int)SteeringCounter.DropFragment];
        DropNoXsk = values[(int)SteeringCounter.DropNoXsk];
        DropSynRate = values[(int)SteeringCounter.DropSynRate];
        RedirectSyn = values[(int)SteeringCounter.RedirectSyn];
        RedirectSegment = values[(int)SteeringCounter.RedirectSegment];
        RedirectIcmp = values[(int)SteeringCounter.RedirectIcmp];
    }

    internal ulong PassNotOurMac { get; init; }
    internal ulong PassNotTcp { get; init; }
    internal ulong PassMalformed { get; init; }
    internal ulong PassLaterFragment { get; init; }
    internal ulong PassNoEndpoint { get; init; }
    internal ulong PassOff { get; init; }
    internal ulong PassKernelOwned { get; init; }
    internal ulong PassSynDrain { get; init; }
    internal ulong PassSynNoXsk { get; init; }
    internal ulong PassSynElsewhere { get; init; }
    internal ulong PassIcmpKernelOwned { get; init; }
    internal ulong PassIcmpNoXsk { get; init; }
    internal ulong DropSource { get; init; }
    internal ulong DropFragment { get; init; }
    internal ulong DropNoXsk { get; init; }
    internal ulong DropSynRate { get; init; }
    internal ulong RedirectSyn { get; init; }
    internal ulong RedirectSegment { get; init; }
    internal ulong RedirectIcmp { get; init; }

    internal ulong Redirected => RedirectSyn + RedirectSegment + RedirectIcmp;

    internal ulong Dropped => DropSource + DropFragment + DropNoXsk + DropSynRate;
}

/// <summary><c>enum steer_counter</c> of bpf/xdp_steer.h.</summary>
internal enum SteeringCounter : uint
{
    PassNotOurMac,
    PassNotTcp,
    PassMalformed,
    PassLaterFragment,
    PassNoEndpoint,
    PassOff,
    PassKernelOwned,
    PassSynDrain,
    PassSynNoXsk,
    PassSynElsewhere,
    PassIcmpKernelOwned,
    PassIcmpNoXsk,
    DropSource,
    DropFragment,
    DropNoXsk,
    DropSynRate,
    RedirectSyn,
    RedirectSegment,
    RedirectIcmp,
    Count,
}
