using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Net;

/// <summary>
/// What traffic control does at the interfaces: queueing disciplines that shape what is sent, and filters at the hooks
/// of clsact.
/// </summary>
internal sealed class TrafficControl(IReadOnlyList<TrafficControl.Entry> found)
{
    private const uint Root = 0xffffffff, Clsact = 0xffff0000, MinIngress = 0xfff2, MinEgress = 0xfff3; // TC_H_…

    private const ushort RTM_NEWQDISC = 36, RTM_GETQDISC = 38, RTM_NEWTFILTER = 44, RTM_GETTFILTER = 46;

    // They decide who is sent first, and not how fast.
    private static readonly string[] s_unshaped =
        ["noqueue", "noop", "pfifo_fast", "pfifo", "bfifo", "pfifo_head_drop", "fq", "fq_codel", "mq", "mqprio", "sfq"];

    // struct tcmsg, whose family is one byte and three of padding.
    private readonly record struct TcMsg(uint Family, int Index, uint Handle, uint Parent, uint Info);

    /// <summary>Something at the interface with this index.</summary>
    internal sealed record Entry(int Index, string What);

    /// <summary>At the interfaces of the calling thread's network namespace.</summary>
    internal static TrafficControl Read()
    {
        var found = new List<Entry>();
        var hooked = new HashSet<int>();
        try
        {
            using NetlinkSocket socket = NetlinkSocket.Open();
            _ = socket.Request(NetlinkRequest.Create(RTM_GETQDISC, dump: true, default(TcMsg)), (type, body) =>
            {
                if (type != RTM_NEWQDISC || Parse(body, out int index, out uint parent, out _) is not { } kind)
                    return;
                if (kind is "clsact" or "ingress")
                    hooked.Add(index);
                else if (parent == Root && !s_unshaped.Contains(kind))
                    found.Add(new(index, $"tc qdisc {kind}"));
            });
            foreach (int device in hooked)
            {
                AddFilters(socket, device, MinIngress, "ingress", found);
                AddFilters(socket, device, MinEgress, "egress", found);
            }
        }
        catch (XdpException)
        {
            // The kernel does not tell.
        }
        return new TrafficControl(found);
    }

    /// <summary>At one interface: <c>tc qdisc tbf on eth0</c>, <c>tc egress filter bpf on eth0</c>.</summary>
    internal IEnumerable<string> PassedBy(int index, string interfaceName) =>
        found.Where(entry => entry.Index == index).Select(entry => $"{entry.What} on {interfaceName}").Distinct();

    private static void AddFilters(
        NetlinkSocket socket, int device, uint hook, string name, List<Entry> found)
    {
        var question = new TcMsg(0, device, 0, Clsact | hook, 0);
        _ = socket.Request(NetlinkRequest.Create(RTM_GETTFILTER, dump: true, question), (type, body) =>
        {
            if (type == RTM_NEWTFILTER && Parse(body, out _, out _, out uint handle) is { } kind && handle != 0)
                found.Add(new(device, $"tc {name} filter {kind}"));
        });
    }

    /// <param name="body">struct tcmsg, then attributes.</param>
    /// <param name="index">Of the interface.</param>
    /// <param name="parent">Where it hangs.</param>
    /// <param name="handle">Zero for the frame around the filters of a priority.</param>
    /// <returns>Its kind; null when there is none.</returns>
    internal static string? Parse(ReadOnlySpan<byte> body, out int index, out uint parent, out uint handle)
    {
        const ushort TCA_KIND = 1;
        index = 0;
        parent = handle = 0;
        if (body.Length < Unsafe.SizeOf<TcMsg>())
            return null;
        TcMsg message = MemoryMarshal.Read<TcMsg>(body);
        (index, parent, handle) = (message.Index, message.Parent, message.Handle);
        var attributes = new NetlinkAttributes(body[Unsafe.SizeOf<TcMsg>()..]);
        while (attributes.MoveNext())
        {
            if (attributes.Type == TCA_KIND)
                return attributes.Text;
        }
        return null;
    }
}
