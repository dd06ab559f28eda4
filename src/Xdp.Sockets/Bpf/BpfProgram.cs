using System.Runtime.InteropServices;
using System.Text;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Bpf;

/// <summary>What an XDP program decides about a packet: the kernel's <c>enum xdp_action</c>.</summary>
public enum XdpAction : uint
{
    Aborted = 0,
    Drop = 1,
    Pass = 2,
    Transmit = 3,
    Redirect = 4,
}

/// <param name="ReturnValue">For XDP an <see cref="XdpAction"/>.</param>
/// <param name="Length">Bytes of the packet afterwards.</param>
/// <param name="Nanoseconds">Mean duration over the repetitions.</param>
public readonly record struct BpfTestResult(uint ReturnValue, int Length, uint Nanoseconds)
{
    public XdpAction Action => (XdpAction)ReturnValue;
}

/// <summary>A loaded and verified program.</summary>
public sealed unsafe class BpfProgram : IDisposable
{
    /// <summary>
    /// The size of the buffer for the verifier's log, in bytes. The kernel cuts off what does not fit.
    /// </summary>
    private const int LogSize = 1 << 20;

    /// <summary>
    /// How much of the log an exception keeps, in characters. What the verifier objects to stands at the end.
    /// </summary>
    private const int LogTail = 4000;

    private readonly ulong _tag;

    private BpfProgram(string name, BpfHandle handle)
    {
        Name = name;
        Handle = handle;
        BpfNative.ProgInfo info = Describe(handle);
        Id = info.Id;
        _tag = info.Tag;
    }

    public string Name { get; }

    public BpfHandle Handle { get; }

    /// <summary>The kernel's number for it, as bpftool shows it.</summary>
    public uint Id { get; }

    /// <summary>
    /// A hash of the instructions that leaves out the numbers of maps. So the same object file gives the same tag,
    /// whoever loads it.
    /// </summary>
    public string Tag
    {
        get
        {
            ulong tag = _tag;
            return Convert.ToHexStringLower(new ReadOnlySpan<byte>(&tag, sizeof(ulong)));
        }
    }

    internal static BpfProgram Load(
        string name, uint type, uint attachType, ReadOnlySpan<byte> instructions, ReadOnlySpan<byte> license,
        uint flags = 0)
    {
        // The first try is without a log, which makes verification several times slower.
        int fd = Load(name, type, attachType, instructions, license, flags, log: default);
        if (fd >= 0)
            return new BpfProgram(name, new BpfHandle(fd));

        int error = -fd;
        byte[] log = new byte[LogSize];
        fd = Load(name, type, attachType, instructions, license, flags, log);
        if (fd >= 0)
            return new BpfProgram(name, new BpfHandle(fd));

        int length = log.AsSpan().IndexOf((byte)0);
        string text = Encoding.UTF8.GetString(log, 0, length < 0 ? log.Length : length).TrimEnd();
        if (text.Length > LogTail)
            text = "…" + text[^LogTail..];
        throw new XdpException(
            $"bpf(BPF_PROG_LOAD, \"{name}\", {instructions.Length / 8} instructions)", error,
            Objection(text) ?? BpfObject.PrivilegeHint(error), text.Length == 0 ? null : text);
    }

    // Behind the objection stands how much was looked at.
    private static string? Objection(string log) =>
        log.Split('\n').LastOrDefault(IsObjection) is { } line
            ? $"The verifier says: {line}. A newer kernel, or CAP_PERFMON, may let it pass"
            : null;

    private static bool IsObjection(string line) =>
        line.Length > 0 && !line.StartsWith("processed ", StringComparison.Ordinal);

    private static int Load(
        string name, uint type, uint attachType, ReadOnlySpan<byte> instructions, ReadOnlySpan<byte> license,
        uint flags, Span<byte> log)
    {
        fixed (byte* text = instructions, terms = license, buffer = log)
        {
            var attributes = new BpfNative.ProgLoad
            {
                ProgType = type,
                ExpectedAttachType = attachType,
                InstructionCount = (uint)instructions.Length / 8,
                Instructions = text,
                License = terms,
                LogLevel = log.IsEmpty ? 0u : 1u,
                LogSize = (uint)log.Length,
                LogBuffer = buffer,
                ProgFlags = flags,
            };
            BpfNative.CopyName(attributes.Name, name);
            return BpfNative.Bpf(BpfNative.BPF_PROG_LOAD, ref attributes);
        }
    }

    /// <summary>
    /// Runs the program over a packet that no device receives or sends. A redirect is reported but not carried out.
    /// </summary>
    /// <param name="packet">From the Ethernet header on; at least 14 bytes.</param>
    /// <param name="ifindex">The device it seems to come from, in this network namespace; 0 is the loopback.</param>
    /// <param name="queue">The device's RX queue; the device must have it.</param>
    /// <param name="repeat">How often to run it, so that the duration means something.</param>
    /// <param name="output">Receives the packet as the program left it, when large enough.</param>
    public BpfTestResult TestRun(
        ReadOnlySpan<byte> packet, int ifindex = 0, int queue = 0, int repeat = 1, Span<byte> output = default)
    {
        BpfNative.ProgTestRun attributes = Run(packet, ifindex, queue, (uint)repeat, output);
        return new BpfTestResult(attributes.ReturnValue, (int)attributes.DataSizeOut, attributes.Duration);
    }

    /// <summary>
    /// Runs the program over a packet as if a device had received it, and does what it decides. Linux 5.18.
    /// </summary>
    /// <param name="packet">From the Ethernet header on.</param>
    /// <param name="ifindex">The device, in this network namespace.</param>
    /// <param name="queue">Its RX queue.</param>
    internal void RunLive(ReadOnlySpan<byte> packet, int ifindex, int queue) =>
        Run(packet, ifindex, queue, repeat: 1, output: default, BpfNative.BPF_F_TEST_XDP_LIVE_FRAMES, batchSize: 1);

    private BpfNative.ProgTestRun Run(
        ReadOnlySpan<byte> packet, int ifindex, int queue, uint repeat, Span<byte> output, uint flags = 0,
        uint batchSize = 0)
    {
        var context = new BpfNative.XdpMd
        {
            DataEnd = (uint)packet.Length,
            IngressIfindex = (uint)ifindex,
            RxQueueIndex = (uint)queue,
        };
        fixed (byte* input = packet, result = output)
        {
            var attributes = new BpfNative.ProgTestRun
            {
                ProgFd = Handle.Fd,
                DataSizeIn = (uint)packet.Length,
                DataIn = input,
                DataSizeOut = (uint)output.Length,
                DataOut = result,
                Repeat = repeat,
                ContextSizeIn = ifindex == 0 ? 0u : (uint)sizeof(BpfNative.XdpMd),
                ContextIn = ifindex == 0 ? null : &context,
                Flags = flags,
                BatchSize = batchSize,
            };
            int error = BpfNative.Bpf(BpfNative.BPF_PROG_TEST_RUN, ref attributes);
            GC.KeepAlive(this);
            if (error < 0)
                throw new XdpException(
                    $"bpf(BPF_PROG_TEST_RUN, \"{Name}\", {packet.Length} bytes, ifindex {ifindex}, queue {queue})",
                    -error);
            return attributes;
        }
    }

    public void Dispose() => Handle.Dispose();

    /// <summary>
    /// The name of a loaded program, whoever loaded it. Null when it is gone or may not be looked at.
    /// </summary>
    internal static string? NameOf(uint id)
    {
        var attributes = new BpfNative.GetFdById { Id = id };
        int fd = BpfNative.Bpf(BpfNative.BPF_PROG_GET_FD_BY_ID, ref attributes);
        if (fd < 0)
            return null;
        using var handle = new BpfHandle(fd);
        BpfNative.ProgInfo info = Describe(handle);
        return Marshal.PtrToStringUTF8((nint)info.Name);
    }

    private static BpfNative.ProgInfo Describe(BpfHandle handle)
    {
        BpfNative.ProgInfo info = default;
        var attributes = new BpfNative.GetInfo
        {
            Fd = handle.Fd,
            InfoLength = (uint)sizeof(BpfNative.ProgInfo),
            Info = &info,
        };
        _ = BpfNative.Bpf(BpfNative.BPF_OBJ_GET_INFO_BY_FD, ref attributes);
        GC.KeepAlive(handle);
        return info;
    }
}
