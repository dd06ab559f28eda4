namespace Xdp.Sockets.Bpf;

/// <summary>A map as an object file declares it, in BTF. Sizes are in bytes.</summary>
public sealed record BpfMapDefinition(
    string Name, BpfMapType Type, int KeySize, int ValueSize, int MaxEntries, uint Flags);

/// <summary>
/// The kernel's <c>enum bpf_map_type</c>, as far as it has names here. Maps of other types load just as well.
/// </summary>
public enum BpfMapType : uint
{
    Hash = 1,
    Array = 2,
    ProgramArray = 3,
    PerCpuHash = 5,
    PerCpuArray = 6,
    LpmTrie = 11,
    DevMap = 14,
    CpuMap = 16,
    XskMap = 17,
}
