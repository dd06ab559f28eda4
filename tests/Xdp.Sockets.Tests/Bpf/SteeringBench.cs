using System.Net;
using System.Net.NetworkInformation;
using System.Reflection;
using System.Runtime.InteropServices;
using Kestrel.Transport.Xdp.Internal.Steering;
using Microsoft.Win32.SafeHandles;
using Xdp.Sockets.Bpf;

namespace Xdp.Sockets.Tests.Bpf;

/// <summary>A loaded steering program that is attached nowhere, and what a test does with it.</summary>
internal sealed partial class SteeringBench : IDisposable
{
    internal const int Port = 8080;

    internal static readonly IPEndPoint Local4 = IPEndPoint.Parse("10.0.0.1:8080"),
        Remote4 = IPEndPoint.Parse("10.0.0.2:40000");
    internal static readonly IPEndPoint Local6 = IPEndPoint.Parse("[fd00::1]:8080"),
        Remote6 = IPEndPoint.Parse("[fd00::2]:40000");

    private readonly XskDescriptor _xsk = new();

    internal SteeringBench(SteeringMode mode = SteeringMode.Steer, bool xsk = true)
    {
        Program = SteeringProgram.Load();
        Program.SetMac(new PhysicalAddress(Packet.OurMac));
        SetMode(mode);
        if (xsk)
            Program.SetXsk(0, _xsk);
    }

    internal SteeringProgram Program { get; }

    internal void SetMode(SteeringMode mode)
    {
        Program.SetEndpoint(Local4.Address, Port, 0, mode);
        Program.SetEndpoint(Local6.Address, Port, 0, mode);
    }

    /// <summary>Exactly this counter moves, by one, and the action is the one its name begins with.</summary>
    internal void Expect(SteeringCounter expected, byte[] packet)
    {
        SteeringCounters before = Program.ReadCounters();
        XdpAction action = Program.Program.TestRun(packet).Action;
        SteeringCounters after = Program.ReadCounters();

        foreach (SteeringCounter counter in Enum.GetValues<SteeringCounter>())
        {
            if (counter == SteeringCounter.Count)
                continue;
            ulong moved = Value(after, counter) - Value(before, counter);
            Assert.True(
                moved == (counter == expected ? 1u : 0u), $"expected {expected}, but {counter} moved by {moved}");
        }
        Assert.StartsWith(action.ToString(), expected.ToString(), StringComparison.Ordinal);
    }

    internal static ulong Value(SteeringCounters counters, SteeringCounter counter)
        => (ulong)typeof(SteeringCounters)
            .GetProperty(counter.ToString(), BindingFlags.Instance | BindingFlags.NonPublic)!.GetValue(counters)!;

    public void Dispose()
    {
        Program.Dispose();
        _xsk.Dispose();
    }

    /// <summary>An AF_XDP socket bound to nothing: enough for an XSKMAP to have an entry.</summary>
    private sealed partial class XskDescriptor : SafeHandleMinusOneIsInvalid
    {
        private const int AF_XDP = 44, SOCK_RAW = 3;

        public XskDescriptor()
            : base(ownsHandle: true)
        {
            SetHandle(Socket(AF_XDP, SOCK_RAW, 0));
            Assert.False(IsInvalid, $"socket(AF_XDP): errno {Marshal.GetLastPInvokeError()}");
        }

        protected override bool ReleaseHandle() => Close((int)handle) == 0;

        [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
        private static partial int Socket(int family, int type, int protocol);

        [LibraryImport("libc", EntryPoint = "close")]
        private static partial int Close(int fd);
    }
}
