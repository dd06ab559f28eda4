// Sends UDP packets to port 7 back to where they came from, over AF_XDP: Reflector INTERFACE, as root. Ctrl-C ends it.
using Xdp.Sockets;
using Xdp.Sockets.Bpf;
using Xdp.Sockets.Net;

const int Frames = 2048;

if (args is not [string name] || NetworkInterfaceInfo.Get(name) is not { } device)
{
    Console.Error.WriteLine("usage: Reflector INTERFACE");
    return 2;
}

using Umem umem = Umem.Create(new UmemOptions { FrameCount = Frames });
var options = new XskOptions { InterfaceIndex = device.Index, QueueId = 0, TxRingSize = Frames };
using Xsk xsk = Xsk.Open(umem, options, [.. Enumerable.Range(0, Frames).Select(umem.AddressOf)]);
using BpfObject bpf = BpfObject.Load(File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "reflector.bpf.o")));
bpf.Maps["xsks"].Update(options.QueueId, xsk.FileDescriptor);
using XdpLink link = XdpLink.Attach(bpf.Programs["reflector"], device.Index);
using EventFd stop = new();
Console.CancelKeyPress += (_, e) =>
{
    e.Cancel = true;
    stop.Signal();
};
Console.WriteLine($"reflecting on {name}: {link.Mode}, {(xsk.IsZeroCopy ? "zero-copy" : "copy")}");

ulong[] sent = new ulong[Frames];
uint underWay = 0;
while (true)
{
    // Nothing wakes us when a frame has been sent, so look again while some are under way.
    TimeSpan timeout = underWay > 0 ? TimeSpan.FromMilliseconds(1) : Timeout.InfiniteTimeSpan;
    if (xsk.Wait(stop, timeout).HasFlag(WaitResult.Wake))
        return 0;

    // RX to TX. There is always room: TX takes as many entries as there are frames.
    uint count = xsk.Rx.Peek(Frames, out uint from);
    xsk.Tx.Reserve(count, out uint to);
    for (uint i = 0; i < count; i++)
    {
        XdpDescriptor packet = xsk.Rx[from + i];
        TurnRound(umem.GetSpan(packet.Address, (int)packet.Length));
        xsk.Tx[to + i] = new XdpDescriptor { Address = packet.Address, Length = packet.Length };
    }
    xsk.Rx.Release(count);
    xsk.Tx.Submit(count);
    xsk.Kick();

    // COMPLETION to FILL.
    uint completed = xsk.Completion.Take(sent);
    xsk.Fill.Add(sent.AsSpan(0, (int)completed));
    xsk.KickFill();
    underWay += count - completed;
}

// Ethernet, IPv4 without options, UDP: the XDP program lets nothing else through.
static void TurnRound(Span<byte> packet)
{
    Swap(packet[..6], packet[6..12]);
    Swap(packet[26..30], packet[30..34]);
    Swap(packet[34..36], packet[36..38]);
    // UDP over IPv4 may go without a checksum. On veth the one that came is not finished.
    packet[40..42].Clear();
}

static void Swap(Span<byte> left, Span<byte> right)
{
    Span<byte> kept = stackalloc byte[left.Length];
    left.CopyTo(kept);
    right.CopyTo(left);
    kept.CopyTo(right);
}
