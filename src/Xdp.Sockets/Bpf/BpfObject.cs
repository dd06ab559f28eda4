using System.Buffers.Binary;
using Xdp.Sockets.Interop;

namespace Xdp.Sockets.Bpf;

/// <summary>
/// The maps and programs of one object file, loaded into the kernel. Nothing is pinned. What is not attached or held by
/// somebody else goes when this is disposed or the process ends.
/// <para>
/// Loads what <c>clang -O2 -g -target bpf</c> makes of programs in <c>SEC("xdp")</c>, <c>SEC("xdp.frags")</c> and
/// <c>SEC("tc")</c>, with maps that are defined in BTF. Global variables, subprograms and CO-RE relocations are
/// refused, not ignored. A program in <c>xdp.frags</c> is given packets that take several buffers too. Of these it
/// reads only the first directly. It wants kernel 5.18.
/// </para>
/// </summary>
public sealed class BpfObject : IDisposable
{
    private const int LoadImmediate64 = 0x18; // BPF_LD | BPF_IMM | BPF_DW

    private readonly Dictionary<string, BpfMap> _maps = [];
    private readonly Dictionary<string, BpfProgram> _programs = [];

    // With the maps' descriptors in them.
    private readonly Dictionary<string, BpfElf.ProgramText> _texts = [];
    private readonly byte[] _license;

    private BpfObject(BpfElf file) => _license = [.. file.License, 0];

    public IReadOnlyDictionary<string, BpfMap> Maps => _maps;

    public IReadOnlyDictionary<string, BpfProgram> Programs => _programs;

    /// <param name="elf">The object file.</param>
    /// <param name="adjust">May change a map before it is created, for instance its size.</param>
    /// <exception cref="XdpException">The kernel refused. For a program it gives the verifier's words.</exception>
    /// <exception cref="InvalidDataException">Not a BPF object.</exception>
    /// <exception cref="NotSupportedException">The object needs something this loader does not do.</exception>
    public static BpfObject Load(ReadOnlySpan<byte> elf, Func<BpfMapDefinition, BpfMapDefinition>? adjust = null)
    {
        BpfElf file = BpfElf.Parse(elf);
        var result = new BpfObject(file);
        try
        {
            result.CreateMaps(file, adjust);
            result.LoadPrograms(file);
            return result;
        }
        catch
        {
            result.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Loads a program again, with the same maps, in place of the one in <see cref="Programs"/>. A driver takes no
    /// notice of a program that it has already.
    /// </summary>
    /// <exception cref="XdpException">The kernel refused. The first one stays.</exception>
    public BpfProgram Reload(string program)
    {
        BpfProgram again = Load(_texts[program]);
        _programs[program].Dispose();
        return _programs[program] = again;
    }

    public void Dispose()
    {
        foreach (BpfProgram program in _programs.Values)
            program.Dispose();
        foreach (BpfMap map in _maps.Values)
            map.Dispose();
    }

    private void CreateMaps(BpfElf file, Func<BpfMapDefinition, BpfMapDefinition>? adjust)
    {
        foreach (BpfMapDefinition definition in file.Maps.Values)
            _maps.Add(definition.Name, BpfMap.Create(adjust?.Invoke(definition) ?? definition));
    }

    private void LoadPrograms(BpfElf file)
    {
        foreach (BpfElf.ProgramText text in file.Programs)
        {
            foreach (BpfElf.MapReference reference in text.MapReferences)
                PointTo(_maps[reference.Map], text.Instructions.AsSpan(reference.Offset, 16));
            _programs.Add(text.Name, Load(text));
            _texts.Add(text.Name, text);
        }
    }

    private BpfProgram Load(BpfElf.ProgramText text)
    {
        (uint type, uint attachType, uint flags) = TypeOf(text.Section);
        return BpfProgram.Load(text.Name, type, attachType, text.Instructions, _license, flags);
    }

    /// <summary>
    /// Fills a map's descriptor into the load that refers to it, which takes two slots. A slot is {opcode, registers,
    /// 16-bit offset, 32-bit immediate}. The source register (the upper half of the second byte) tells the verifier
    /// what the immediate is.
    /// </summary>
    private static void PointTo(BpfMap map, Span<byte> load)
    {
        if (load[0] != LoadImmediate64)
            throw new InvalidDataException(
                $"The reference to map '{map.Name}' stands at an instruction that loads no address.");
        load[1] = (byte)(load[1] & 0x0f | (int)BpfNative.BPF_PSEUDO_MAP_FD << 4);
        BinaryPrimitives.WriteUInt32LittleEndian(load[4..], map.Handle.Fd);
        BinaryPrimitives.WriteUInt32LittleEndian(load[12..], 0);
    }

    private static (uint Type, uint AttachType, uint Flags) TypeOf(string section) => section.Split('/')[0] switch
    {
        "xdp" => (BpfNative.BPF_PROG_TYPE_XDP, BpfNative.BPF_XDP, 0),
        "xdp.frags" => (BpfNative.BPF_PROG_TYPE_XDP, BpfNative.BPF_XDP, BpfNative.BPF_F_XDP_HAS_FRAGS),
        "tc" or "classifier" => (BpfNative.BPF_PROG_TYPE_SCHED_CLS, 0, 0),
        _ => throw new NotSupportedException(
            $"Programs in section '{section}' are of a kind this loader does not know."),
    };

    internal static string? PrivilegeHint(int errno) => errno switch
    {
        ErrnoNames.EPERM => ProcessFacts.Sentence(ProcessFacts.Read().WhyNoBpf()),
        ErrnoNames.ENOSYS => "This kernel or machine type has no bpf(2) known here",
        ErrnoNames.ENOMEM => "Not enough kernel memory, or a memory limit of the cgroup",
        _ => null,
    };
}
