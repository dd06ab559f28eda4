namespace Xdp.Sockets.Bpf;

/// <summary>What a map looks like, as an object file's BTF declares it. Sizes in bytes.</summary>
public sealed record BpfMapDefinition(string Name, BpfMapType Type, int KeySize, int ValueSize, int MaxEntries, uint Flags);

/// <summary>The kernel's <c>enum bpf_map_type</c>: the types this library knows by name; others load just as well.</summary>
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
