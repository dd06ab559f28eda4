using System.Buffers.Binary;
using System.Text;

namespace Xdp.Sockets.Bpf;

/// <summary>
/// Reads map definitions from an object's <c>.BTF</c> section. A map is a variable in <c>.maps</c>. Its type is a
/// struct whose fields say everything by their types: <c>__uint(name, n)</c> is a pointer to an array of n elements,
/// and <c>__type(name, T)</c> is a pointer to T. The format is described in the kernel's Documentation/bpf/btf.rst.
/// </summary>
internal sealed class BtfMapParser
{
    private const ushort Magic = 0xeb9f;
    private const int KindInt = 1, KindPtr = 2, KindArray = 3, KindStruct = 4, KindUnion = 5, KindEnum = 6, KindFwd = 7,
        KindTypedef = 8, KindVolatile = 9, KindConst = 10, KindRestrict = 11, KindFunc = 12, KindFuncProto = 13,
        KindVar = 14, KindDatasec = 15, KindFloat = 16, KindDeclTag = 17, KindTypeTag = 18, KindEnum64 = 19;

    private readonly byte[] _strings;
    private readonly List<BtfType> _types = [new(0, 0, 0, [])]; // Ids start at 1; 0 is void.

    private BtfMapParser(byte[] strings) => _strings = strings;

    internal static IReadOnlyDictionary<string, BpfMapDefinition> Parse(ReadOnlySpan<byte> btf)
    {
        if (btf.Length < 24 || BinaryPrimitives.ReadUInt16LittleEndian(btf) != Magic)
            throw new InvalidDataException("The object has no BTF; compile with clang -g.");
        int header = ReadInt(btf, 4);
        ReadOnlySpan<byte> types = btf.Slice(header + ReadInt(btf, 8), ReadInt(btf, 12));
        ReadOnlySpan<byte> strings = btf.Slice(header + ReadInt(btf, 16), ReadInt(btf, 20));

        var parser = new BtfMapParser(strings.ToArray());
        parser.ReadTypes(types);
        return parser.Maps();
    }

    private void ReadTypes(ReadOnlySpan<byte> types)
    {
        while (!types.IsEmpty)
        {
            uint info = BinaryPrimitives.ReadUInt32LittleEndian(types[4..]);
            int kind = (int)(info >> 24 & 0x1f);
            int count = (int)(info & 0xffff);
            int extra = kind switch
            {
                KindInt or KindVar or KindDeclTag => 4,
                KindArray => 12,
                KindStruct or KindUnion or KindDatasec or KindEnum64 => count * 12,
                KindEnum or KindFuncProto => count * 8,
                KindPtr or KindFwd or KindTypedef or KindVolatile or KindConst or KindRestrict => 0,
                KindFunc or KindFloat or KindTypeTag => 0,
                _ => throw new InvalidDataException($"BTF kind {kind} is not known."),
            };
            _types.Add(new BtfType(kind, ReadInt(types, 0), ReadInt(types, 8), types.Slice(12, extra).ToArray()));
            types = types[(12 + extra)..];
        }
    }

    private Dictionary<string, BpfMapDefinition> Maps()
    {
        var maps = new Dictionary<string, BpfMapDefinition>();
        foreach (BtfType section in _types)
        {
            if (section.Kind != KindDatasec || Text(section.Name) != ".maps")
                continue;
            for (int i = 0; i < section.Extra.Length; i += 12)
            {
                BtfType variable = _types[ReadInt(section.Extra, i)];
                BpfMapDefinition map = Map(Text(variable.Name), Resolve(variable.SizeOrType));
                maps.Add(map.Name, map);
            }
        }
        return maps;
    }

    private BpfMapDefinition Map(string name, BtfType definition)
    {
        int type = 0, keySize = 0, valueSize = 0, maxEntries = 0, flags = 0;
        for (int i = 0; i < definition.Extra.Length; i += 12)
        {
            string field = Text(ReadInt(definition.Extra, i));
            BtfType pointer = Resolve(ReadInt(definition.Extra, i + 4));
            switch (field)
            {
                case "type": type = ArrayLength(pointer); break;
                case "max_entries": maxEntries = ArrayLength(pointer); break;
                case "map_flags": flags = ArrayLength(pointer); break;
                case "key_size": keySize = ArrayLength(pointer); break;
                case "value_size": valueSize = ArrayLength(pointer); break;
                case "key": keySize = SizeOf(pointer.SizeOrType); break;
                case "value": valueSize = SizeOf(pointer.SizeOrType); break;
                default:
                    throw new NotSupportedException(
                        $"Map '{name}' has the attribute '{field}', which this loader does not know.");
            }
        }
        return new BpfMapDefinition(name, (BpfMapType)type, keySize, valueSize, maxEntries, (uint)flags);
    }

    private int ArrayLength(BtfType pointer) => ReadInt(Resolve(pointer.SizeOrType).Extra, 8);

    private int SizeOf(int id)
    {
        BtfType type = Resolve(id);
        return type.Kind switch
        {
            KindInt or KindStruct or KindUnion or KindEnum or KindEnum64 or KindFloat => type.SizeOrType,
            KindPtr => 8,
            KindArray => SizeOf(ReadInt(type.Extra, 0)) * ReadInt(type.Extra, 8),
            _ => throw new InvalidDataException($"BTF type {id} of kind {type.Kind} has no size."),
        };
    }

    /// <summary>The type that is left when typedefs and qualifiers are taken away.</summary>
    private BtfType Resolve(int id)
    {
        BtfType type = _types[id];
        while (type.Kind is KindTypedef or KindVolatile or KindConst or KindRestrict or KindTypeTag)
            type = _types[type.SizeOrType];
        return type;
    }

    private string Text(int offset)
    {
        ReadOnlySpan<byte> rest = _strings.AsSpan(offset);
        return Encoding.ASCII.GetString(rest[..rest.IndexOf((byte)0)]);
    }

    private static int ReadInt(ReadOnlySpan<byte> bytes, int offset) =>
        BinaryPrimitives.ReadInt32LittleEndian(bytes[offset..]);

    private sealed record BtfType(int Kind, int Name, int SizeOrType, byte[] Extra);
}
