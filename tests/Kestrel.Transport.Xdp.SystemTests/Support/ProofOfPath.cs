namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>
/// Proves, for the time from <see cref="BeginAsync"/> to <see cref="AssertAsync"/>, that what a server and its clients
/// exchanged went over AF_XDP. Four witnesses: the counters of the AF_XDP sockets moved, the companion accepted
/// nothing, nor did the kernel's listening sockets, and the kernel sent no RST. The fifth is /connection, which a test
/// asks on the connections themselves.
/// </summary>
internal sealed class ProofOfPath
{
    private readonly HelloWebServer _server;
    private readonly Counters _counters;
    private readonly KernelTcp _kernel;

    private ProofOfPath(HelloWebServer server, Counters counters, KernelTcp kernel) =>
        (_server, _counters, _kernel) = (server, counters, kernel);

    internal double FramesBefore => _counters.Frames;

    internal static async Task<ProofOfPath> BeginAsync(HelloWebServer server)
    {
        // The first question opens the control connection, through the companion.
        await server.CountersAsync();
        await server.Namespace.ForgetTimeWaitsAsync();
        return new ProofOfPath(server, await server.CountersAsync(), server.Namespace.KernelTcp());
    }

    internal async Task AssertAsync()
    {
        KernelTcp kernel = _server.Namespace.KernelTcp();
        Counters now = await _server.CountersAsync();
        Assert.True(now.PacketsIn > _counters.PacketsIn, "The AF_XDP sockets received nothing.");
        Assert.True(now.PacketsOut > _counters.PacketsOut, "The AF_XDP sockets sent nothing.");
        Assert.True(now.Accepted > _counters.Accepted, "No connection was accepted through AF_XDP.");
        Assert.True(
            now.CompanionAccepts == _counters.CompanionAccepts,
            $"The companion accepted {now.CompanionAccepts - _counters.CompanionAccepts} connections.");
        Assert.True(
            kernel.Accepted == _kernel.Accepted,
            $"The kernel's TCP accepted {kernel.Accepted - _kernel.Accepted} connections.");
        Assert.True(
            kernel.ResetsSent == _kernel.ResetsSent,
            $"The kernel's TCP sent {kernel.ResetsSent - _kernel.ResetsSent} resets.");
    }

    /// <summary>
    /// To be called when all connections have closed. Then none is in the tables, every frame is Free or Fill, there
    /// are as many frames as at first, and no heap block is out.
    /// </summary>
    internal Task AssertQuietAsync() => Eventually.NullAsync(async () =>
    {
        Counters now = await _server.CountersAsync();
        bool areFramesHome = now.FramesAtHome == now.Frames && now.Frames == FramesBefore;
        return now.Connections == 0 && areFramesHome && now.HeapBlocks == 0
            ? null
            : $"{now.Connections} connections are left, {now.HeapBlocks} heap blocks are out, and "
                + $"{now.FramesAtHome} of {now.Frames} (once {FramesBefore}) frames are at home.\n{now}";
    });
}
