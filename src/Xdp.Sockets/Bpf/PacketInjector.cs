using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Bpf;

/// <summary>
/// Hands packets to the kernel's network stack as if a device had received them: past the XDP program of its driver,
/// but through one in generic mode. Linux 5.18; needs CAP_BPF and CAP_NET_ADMIN.
/// </summary>
public sealed class PacketInjector : IDisposable
{
    // r0 = XDP_PASS; exit
    private static ReadOnlySpan<byte> Pass => [0xb7, 0, 0, 0, (byte)XdpAction.Pass, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

    private readonly BpfProgram _program = BpfProgram.Load(
        "xdp_pass", BpfNative.BPF_PROG_TYPE_XDP, BpfNative.BPF_XDP, Pass, "Dual MIT/GPL\0"u8);

    /// <param name="packet">From the Ethernet header on.</param>
    /// <param name="ifindex">The device, in this network namespace.</param>
    /// <param name="queue">Its RX queue.</param>
    /// <exception cref="XdpException">The kernel refused; says why.</exception>
    public void Inject(ReadOnlySpan<byte> packet, int ifindex, int queue) => _program.RunLive(packet, ifindex, queue);

    public void Dispose() => _program.Dispose();
}
