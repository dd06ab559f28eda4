using System.Buffers.Binary;
using System.Diagnostics;
using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using Kestrel.Transport.Xdp.Internal.Steering;
using Xdp.Sockets.Bpf;
using Xdp.Sockets.Interop;
using Xdp.Sockets.Net;
using Xdp.Sockets.Tests.Net;

namespace Xdp.Sockets.Tests.Bpf;

/// <summary>Attaching to devices, and letting go of them.</summary>
public class XdpLinkTests
{
    /// <summary>
    /// Another process that holds a device: it loads "return XDP_PASS", attaches it by a link, says so and waits.
    /// </summary>
    private const string Holder = """
        import ctypes, platform, struct, sys, time
        libc = ctypes.CDLL(None, use_errno=True)
        number = 321 if platform.machine() == "x86_64" else 280
        def bpf(command, attributes):
            fd = libc.syscall(number, command, attributes, len(attributes))
            if fd < 0: sys.exit("errno %d" % ctypes.get_errno())
            return fd
        text = ctypes.create_string_buffer(bytes([0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95] + [0] * 7))
        terms = ctypes.create_string_buffer(b"GPL")
        program = bpf(5, struct.pack("=IIQQIIQII16sII", 6, 2, ctypes.addressof(text), ctypes.addressof(terms),
                                     0, 0, 0, 0, 0, b"holder", 0, 37))
        link = bpf(28, struct.pack("=IIII", program, int(sys.argv[1]), 37, 4))
        print("attached", flush=True)
        time.sleep(60)
        """;

    public XdpLinkTests() => TestNetwork.Require();

    [SkippableFact]
    public void Attach_Native_UntilDisposed()
    {
        using var pair = new VethPair();
        pair.Server.Run(() =>
        {
            using SteeringProgram program = SteeringProgram.Load();
            Assert.Null(XdpLink.Query(pair.ServerIndex));
            (AttachMode mode, string? reason) = program.Attach(pair.ServerIndex, AttachMode.Auto);
            Assert.Equal(AttachMode.Native, mode);
            Assert.Null(reason);
            Assert.Equal(
                new XdpAttachment(AttachMode.Native, program.Program.Id, "xdp_steer"), XdpLink.Query(pair.ServerIndex));

            program.Detach();
            Assert.Null(XdpLink.Query(pair.ServerIndex));
            program.Attach(pair.ServerIndex, AttachMode.Native);
            program.Dispose();
            Assert.Null(XdpLink.Query(pair.ServerIndex));
        });
    }

    [SkippableFact]
    public void Attach_GenericOnlyOnRequest()
    {
        using var network = new TestNetwork();
        network.Run(() =>
        {
            const int Loopback = 1;
            using SteeringProgram program = SteeringProgram.Load();
            XdpException e = Assert.Throws<XdpException>(() => program.Attach(Loopback, AttachMode.Auto));
            Assert.Equal(ErrnoNames.EOPNOTSUPP, e.Errno);
            Assert.NotEmpty(e.Hint!);

            (AttachMode mode, string? reason) = program.Attach(Loopback, AttachMode.Generic);
            Assert.Equal(AttachMode.Generic, mode);
            Assert.NotNull(reason);
            Assert.Equal(AttachMode.Generic, XdpLink.Query(Loopback)!.Value.Mode);
        });
    }

    [SkippableFact]
    public void Attach_NoSuchDevice_SaysSo()
    {
        using var network = new TestNetwork();
        using SteeringProgram program = SteeringProgram.Load();
        XdpException e = Assert.Throws<XdpException>(() => network.Run(() => program.Attach(4000, AttachMode.Auto)));
        Assert.Contains("no such device", e.Hint, StringComparison.Ordinal);
        Assert.False(program.IsAttached);
    }

    /// <summary>The steering program is in section <c>xdp.frags</c>.</summary>
    [SkippableFact]
    public void Attach_PeerMtuOf9000_IsTakenWithFrags()
    {
        using var pair = new VethPair();
        pair.Client.Ip("link set c0 mtu 9000");
        pair.Server.Run(() =>
        {
            using SteeringProgram program = SteeringProgram.Load();
            Assert.Equal(AttachMode.Native, program.Attach(pair.ServerIndex, AttachMode.Auto).Mode);
        });
    }

    [SkippableFact]
    public void Attach_PeerMtuTooBig_SaysSo()
    {
        using var pair = new VethPair();
        pair.Client.Ip("link set c0 mtu 9000");
        pair.Server.Run(() =>
        {
            byte[] pass = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]; // r0 = XDP_PASS; exit
            using BpfProgram program = BpfProgram.Load(
                "pass", BpfNative.BPF_PROG_TYPE_XDP, BpfNative.BPF_XDP, pass, "GPL\0"u8);
            XdpException e = Assert.Throws<XdpException>(() => XdpLink.Attach(program, pair.ServerIndex));
            Assert.Contains("Peer MTU is too large", e.Hint, StringComparison.Ordinal); // the driver's own words
        });
    }

    [SkippableFact]
    public void Attach_Held_NamesTheHolder()
    {
        using var pair = new VethPair();
        pair.Server.Run(() =>
        {
            using SteeringProgram first = SteeringProgram.Load(), second = SteeringProgram.Load();
            first.Attach(pair.ServerIndex, AttachMode.Native);
            var clock = Stopwatch.StartNew();
            XdpException e = Assert.Throws<XdpException>(
                () => second.Attach(pair.ServerIndex, AttachMode.Native, TimeSpan.FromMilliseconds(100)));
            Assert.InRange(clock.ElapsedMilliseconds, 100, 5000);
            Assert.Equal(ErrnoNames.EBUSY, e.Errno);
            Assert.Contains($"{first.Program.Id} \"xdp_steer\" (Native)", e.Hint, StringComparison.Ordinal);
        });
    }

    [SkippableFact]
    public void Attach_HolderLetsGo_Succeeds()
    {
        using var pair = new VethPair();
        using SteeringProgram first = SteeringProgram.Load(), second = SteeringProgram.Load();
        pair.Server.Run(() => first.Attach(pair.ServerIndex, AttachMode.Native));
        var waiting = new Thread(() => pair.Server.Run(() => second.Attach(pair.ServerIndex, AttachMode.Native)));
        waiting.Start();
        first.Detach();
        waiting.Join();
        Assert.True(second.IsAttached);
    }

    [SkippableFact]
    public void Attach_HolderKilled_Succeeds()
    {
        TestNetwork.Require("python3");
        using var pair = new VethPair();
        string[] command = ["netns", "exec", pair.Server.Name, "python3", "-c", Holder, $"{pair.ServerIndex}"];
        using Process holder = Process.Start(new ProcessStartInfo("ip", command) { RedirectStandardOutput = true })!;
        Assert.Equal("attached", holder.StandardOutput.ReadLine());
        pair.Server.Run(() =>
        {
            using SteeringProgram program = SteeringProgram.Load();
            XdpException e = Assert.Throws<XdpException>(
                () => program.Attach(pair.ServerIndex, AttachMode.Native, TimeSpan.Zero));
            Assert.Contains("\"holder\"", e.Hint, StringComparison.Ordinal);
            holder.Kill();
            program.Attach(pair.ServerIndex, AttachMode.Native);
            Assert.Equal("xdp_steer", XdpLink.Query(pair.ServerIndex)!.Value.ProgramName);
        });
    }

    [SkippableFact]
    public void Update_ReplacesTheProgram()
    {
        using var pair = new VethPair();
        pair.Server.Run(() =>
        {
            using SteeringProgram first = SteeringProgram.Load(), second = SteeringProgram.Load();
            using XdpLink link = XdpLink.Attach(first.Program, pair.ServerIndex);
            link.Update(second.Program);
            Assert.Equal(second.Program.Id, XdpLink.Query(pair.ServerIndex)!.Value.ProgramId);
        });
    }

    [SkippableFact]
    public void CoverNewQueues_PutsACopyInPlace_WithTheSameMaps()
    {
        using var pair = new VethPair();
        pair.Server.Run(() =>
        {
            using SteeringProgram program = SteeringProgram.Load();
            program.Attach(pair.ServerIndex, AttachMode.Native);
            uint first = program.Program.Id;
            program.CoverNewQueues();
            Assert.NotEqual(first, program.Program.Id);
            Assert.Equal(program.Program.Id, XdpLink.Query(pair.ServerIndex)!.Value.ProgramId);
            Assert.True(program.IsAttached);
            ulong before = program.ReadCounters().PassNotOurMac;
            program.Program.TestRun(new byte[64]);
            Assert.True(program.ReadCounters().PassNotOurMac > before);
        });
    }

    [SkippableFact]
    public void IsAttached_UntilSomebodyDetachesOrReplacesIt()
    {
        using var pair = new VethPair();
        pair.Server.Run(() =>
        {
            using SteeringProgram first = SteeringProgram.Load(), second = SteeringProgram.Load();
            using XdpLink link = XdpLink.Attach(first.Program, pair.ServerIndex);
            Assert.True(link.IsAttached);
            link.Update(second.Program);
            Assert.True(link.IsAttached);

            // As another process does it, by a descriptor of its own.
            var update = new BpfNative.LinkUpdate { LinkFd = link.Handle.Fd, NewProgFd = first.Program.Handle.Fd };
            Assert.Equal(0, BpfNative.Bpf(BpfNative.BPF_LINK_UPDATE, ref update));
            Assert.False(link.IsAttached);
            link.Update(first.Program);
            Assert.True(link.IsAttached);

            var detach = new BpfNative.LinkDetach { LinkFd = link.Handle.Fd };
            Assert.Equal(0, BpfNative.Bpf(BpfNative.BPF_LINK_DETACH, ref detach));
            Assert.False(link.IsAttached);
        });
    }

    [SkippableFact]
    public void IsAttached_UntilTheDeviceIsGone_WhateverItsNamespace()
    {
        using var pair = new VethPair();
        pair.Server.Run(() =>
        {
            using SteeringProgram program = SteeringProgram.Load();
            using XdpLink link = XdpLink.Attach(program.Program, pair.ServerIndex);
            pair.Server.Ip($"link set s0 netns {pair.Client.Name}");
            Assert.True(link.IsAttached);
            pair.Client.Ip("link del s0");
            Assert.False(link.IsAttached);
        });
    }

    [SkippableFact]
    public void Attached_WithoutXsk_TheKernelServes()
    {
        using var pair = new VethPair();
        using SteeringProgram program = SteeringProgram.Load();
        Socket listener = pair.Server.Run(() =>
        {
            NetworkInterfaceInfo server = NetworkInterfaceInfo.Get(pair.ServerIndex)!;
            program.SetMac(server.Mac);
            program.Attach(pair.ServerIndex, AttachMode.Native);
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            socket.Bind(new IPEndPoint(VethPair.ServerAddress, 0));
            socket.Listen();
            return socket;
        });
        using (listener)
        using (Socket client = pair.Client.Run(
            () => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp)))
        {
            program.SetEndpoint(
                VethPair.ServerAddress, ((IPEndPoint)listener.LocalEndPoint!).Port, 0, SteeringMode.Steer);
            client.Connect(listener.LocalEndPoint!);
            using Socket accepted = listener.Accept();
            client.Send("ping"u8);
            byte[] buffer = new byte[16];
            Assert.Equal(4, accepted.Receive(buffer));

            SteeringCounters counters = program.ReadCounters();
            Assert.Equal(1ul, counters.PassSynNoXsk);
            Assert.True(counters.PassKernelOwned >= 2, $"{counters}"); // the handshake's last ACK and the data
            Assert.Equal(0ul, counters.Dropped + counters.Redirected);
        }
    }

    [SkippableFact]
    public void Attached_WithXsk_ItGetsTheSegments_AndTheKernelNone()
    {
        using var pair = new VethPair();
        using SteeringProgram program = SteeringProgram.Load();
        using Umem umem = Umem.Create(new UmemOptions { FrameCount = 64 });
        using Xsk xsk = pair.Server.Run(() =>
        {
            program.SetMac(NetworkInterfaceInfo.Get(pair.ServerIndex)!.Mac);
            program.Attach(pair.ServerIndex, AttachMode.Native);
            var options = new XskOptions { InterfaceIndex = pair.ServerIndex, QueueId = 0, BindMode = BindMode.Copy };
            return Xsk.Open(umem, options, [.. Enumerable.Range(0, 32).Select(umem.AddressOf)]);
        });
        program.SetXsk(0, xsk.Handle);
        const int Port = 7000; // nobody listens: the kernel would answer RST, and the connect fail at once
        program.SetEndpoint(VethPair.ServerAddress, Port, 0, SteeringMode.Mixed);

        using Socket client =
            pair.Client.Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp));
        Task connecting = client.ConnectAsync(new IPEndPoint(VethPair.ServerAddress, Port));
        Assert.True(SpinWait.SpinUntil(() => xsk.Rx.Available > 0, TimeSpan.FromSeconds(5)));
        Assert.False(connecting.IsCompleted);
        Assert.Equal(1u, xsk.Rx.Peek(1, out uint index));
        ReadOnlySpan<byte> frame = umem.GetSpan(xsk.Rx[index].Address, (int)xsk.Rx[index].Length);
        const int DestinationPort = 14 + 20 + 2;
        Assert.Equal(Port, BinaryPrimitives.ReadUInt16BigEndian(frame[DestinationPort..]));
        xsk.Rx.Release(1);
        Assert.True(program.ReadCounters().RedirectSyn >= 1);

        // Once the socket is gone, its queue has none and SYNs are the kernel's again. The client's next SYN meets the
        // kernel's RST.
        xsk.Dispose();
        SocketException e = Assert.Throws<SocketException>(() => connecting.GetAwaiter().GetResult());
        Assert.Equal(SocketError.ConnectionRefused, e.SocketErrorCode);
        Assert.True(program.ReadCounters().PassSynNoXsk >= 1);
    }

    /// <summary>Two namespaces and a cable.</summary>
    private sealed class VethPair : IDisposable
    {
        internal static readonly IPAddress ServerAddress = IPAddress.Parse("10.9.0.1");

        internal VethPair()
        {
            Server.Ip($"link add s0 type veth peer name c0 netns {Client.Name}");
            Server.Ip($"addr add {ServerAddress}/24 dev s0");
            Client.Ip("addr add 10.9.0.2/24 dev c0");
            Server.Ip("link set s0 up");
            Client.Ip("link set c0 up");
            ServerIndex = Server.Run(() => NetworkInterfaceInfo.Get("s0")!.Index);
        }

        internal TestNetwork Server { get; } = new();

        internal TestNetwork Client { get; } = new();

        internal int ServerIndex { get; }

        public void Dispose()
        {
            Server.Dispose();
            Client.Dispose();
        }
    }
}
