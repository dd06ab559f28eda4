using System.Buffers.Binary;
using System.Text;

namespace Xdp.Sockets.Bpf;

/// <summary>
/// A relocatable BPF object as clang writes it: ELF64, little-endian. Tells its sections, which bytes are which
/// program, and which instructions refer to which map.
/// </summary>
internal sealed class BpfElf
{
    private const int HeaderSize = 64, SectionHeaderSize = 64, SymbolSize = 24, RelocationSize = 16;
    private const ushort MachineBpf = 247;
    private const uint SectionRel = 9, SectionSymbols = 2, FlagExecutable = 4;
    private const int SymbolFunction = 2;
    private const uint RelocationMap = 1; // R_BPF_64_64

    private readonly byte[] _file;
    private readonly List<Section> _sections = [];
    private readonly List<Symbol> _symbols = [];

    /// <summary>
    /// A program. Its instructions are 8 bytes each. The immediates that refer to maps are not filled in yet.
    /// </summary>
    internal sealed record ProgramText(
        string Name, string Section, byte[] Instructions, IReadOnlyList<MapReference> MapReferences);

    /// <summary>
    /// A load of a map's address, which takes two instruction slots. Offset: in bytes from the start of the program.
    /// </summary>
    internal sealed record MapReference(int Offset, string Map);

    private sealed record Section(string Name, uint Type, ulong Flags, int Offset, int Size, int Info);

    private sealed record Symbol(string Name, int Type, int Section, int Value, int Size);

    private BpfElf(byte[] file) => _file = file;

    internal IReadOnlyList<ProgramText> Programs { get; private set; } = [];

    internal IReadOnlyDictionary<string, BpfMapDefinition> Maps { get; private set; } =
        new Dictionary<string, BpfMapDefinition>();

    internal byte[] License { get; private set; } = [];

    /// <exception cref="InvalidDataException">Not an object file for BPF, or cut short.</exception>
    internal static BpfElf Parse(ReadOnlySpan<byte> file)
    {
        if (file.Length < HeaderSize || !file.StartsWith("\u007fELF"u8))
            throw new InvalidDataException("Not an ELF file.");
        if (file[4] != 2 || file[5] != 1 || BinaryPrimitives.ReadUInt16LittleEndian(file[18..]) != MachineBpf)
            throw new InvalidDataException("Not a 64-bit little-endian BPF object; compile with clang -target bpf.");
        var elf = new BpfElf(file.ToArray());
        try
        {
            elf.ReadSections();
            elf.ReadSymbols();
            elf.Programs = elf.ReadPrograms();
            elf.Maps = BtfMapParser.Parse(elf.SectionBytes(".BTF"));
            elf.License = elf.SectionBytes("license").ToArray();
            return elf;
        }
        catch (Exception e) when (e is ArgumentException or IndexOutOfRangeException or OverflowException)
        {
            throw new InvalidDataException("The BPF object is cut short or damaged.", e);
        }
    }

    private ReadOnlySpan<byte> SectionBytes(string name)
    {
        foreach (Section section in _sections)
        {
            if (section.Name == name)
                return Bytes(section);
        }
        return default;
    }

    private List<ProgramText> ReadPrograms()
    {
        var programs = new List<ProgramText>();
        foreach (Symbol symbol in _symbols)
        {
            if (symbol.Type != SymbolFunction || (_sections[symbol.Section].Flags & FlagExecutable) == 0)
                continue;
            Section section = _sections[symbol.Section];
            if (section.Name == ".text")
                throw new NotSupportedException(
                    $"'{symbol.Name}' is a subprogram; this loader wants every function inlined.");
            byte[] text = Bytes(section).Slice(symbol.Value, symbol.Size).ToArray();
            programs.Add(new ProgramText(symbol.Name, section.Name, text, References(symbol)));
        }
        return programs;
    }

    private List<MapReference> References(Symbol program)
    {
        var references = new List<MapReference>();
        foreach (Section section in _sections)
        {
            if (section.Type != SectionRel || section.Info != program.Section)
                continue;
            ReadOnlySpan<byte> entries = Bytes(section);
            for (; entries.Length >= RelocationSize; entries = entries[RelocationSize..])
            {
                int offset = (int)BinaryPrimitives.ReadUInt64LittleEndian(entries) - program.Value;
                if (offset < 0 || offset >= program.Size)
                    continue;
                Symbol target = _symbols[ReadInt(entries, 12)];
                if (ReadInt(entries, 8) != RelocationMap || _sections[target.Section].Name != ".maps")
                    throw new NotSupportedException(
                        $"'{program.Name}' refers to '{target.Name}', which is no map; "
                        + "this loader knows neither global variables nor calls.");
                references.Add(new MapReference(offset, target.Name));
            }
        }
        return references;
    }

    private void ReadSections()
    {
        ReadOnlySpan<byte> file = _file;
        int table = (int)BinaryPrimitives.ReadUInt64LittleEndian(file[40..]);
        int count = BinaryPrimitives.ReadUInt16LittleEndian(file[60..]);
        int namesIndex = BinaryPrimitives.ReadUInt16LittleEndian(file[62..]);

        ReadOnlySpan<byte> namesHeader = file[(table + namesIndex * SectionHeaderSize)..];
        int names = (int)BinaryPrimitives.ReadUInt64LittleEndian(namesHeader[24..]);
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> header = file.Slice(table + i * SectionHeaderSize, SectionHeaderSize);
            _sections.Add(new Section(
                Text(names + ReadInt(header, 0)),
                (uint)ReadInt(header, 4),
                BinaryPrimitives.ReadUInt64LittleEndian(header[8..]),
                (int)BinaryPrimitives.ReadUInt64LittleEndian(header[24..]),
                (int)BinaryPrimitives.ReadUInt64LittleEndian(header[32..]),
                ReadInt(header, 44)));
        }
    }

    private void ReadSymbols()
    {
        if (_sections.Find(s => s.Type == SectionSymbols) is not { } table)
            return;
        int names = _sections.Find(s => s.Name == ".strtab")?.Offset ?? 0;
        for (ReadOnlySpan<byte> entries = Bytes(table); entries.Length >= SymbolSize; entries = entries[SymbolSize..])
        {
            int section = BinaryPrimitives.ReadUInt16LittleEndian(entries[6..]);
            _symbols.Add(new Symbol(
                Text(names + ReadInt(entries, 0)),
                entries[4] & 0xf,
                section < _sections.Count ? section : 0, // Absolute and common symbols have reserved numbers.
                (int)BinaryPrimitives.ReadUInt64LittleEndian(entries[8..]),
                (int)BinaryPrimitives.ReadUInt64LittleEndian(entries[16..])));
        }
    }

    private ReadOnlySpan<byte> Bytes(Section section) => _file.AsSpan(section.Offset, section.Size);

    private string Text(int offset)
    {
        ReadOnlySpan<byte> rest = _file.AsSpan(offset);
        return Encoding.ASCII.GetString(rest[..rest.IndexOf((byte)0)]);
    }

    private static int ReadInt(ReadOnlySpan<byte> bytes, int offset) =>
        BinaryPrimitives.ReadInt32LittleEndian(bytes[offset..]);
}
