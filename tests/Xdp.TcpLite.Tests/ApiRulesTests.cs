using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;
using System.Reflection.PortableExecutable;

namespace Xdp.TcpLite.Tests;

/// <summary>
/// The stack is deterministic and safe because nothing else is in its reach: it references no clock, thread, socket,
/// randomness or log, and has no unsafe code.
/// </summary>
public class ApiRulesTests
{
    /// <summary>Types, or with a dot and a member at the end, members.</summary>
    private static readonly string[] s_banned =
    [
        "System.Threading.Thread", "System.Threading.ThreadPool", "System.Threading.Timer",
        "System.Threading.PeriodicTimer", "System.Threading.Tasks.", "System.Diagnostics.Stopwatch",
        "System.TimeProvider", "System.Random", "System.Security.Cryptography.", "System.Guid::NewGuid",
        "System.DateTime::get_Now", "System.DateTime::get_UtcNow", "System.DateTimeOffset::get_Now",
        "System.DateTimeOffset::get_UtcNow", "System.Environment::get_TickCount",
        "System.Environment::get_TickCount64", "System.Net.Sockets.Socket", "System.Console", "System.IO.",
        "Microsoft.", "System.Diagnostics.Trace", "System.Diagnostics.Debug::WriteLine",
        "System.Runtime.InteropServices.Marshal", "System.Runtime.InteropServices.NativeMemory",
        "System.Runtime.InteropServices.NativeLibrary", "System.HashCode",
    ];

    /// <summary>What starts as a banned name does and is harmless.</summary>
    private static readonly string[] s_allowed =
    [
        "Microsoft.CodeAnalysis.", // attributes that the compiler embeds
        "System.Net.Sockets.SocketException",
    ];

    private static readonly string s_path = typeof(TcpStack).Assembly.Location;

    [Fact]
    public void Assembly_ReferencesNoBannedApi()
    {
        using var file = new PEReader(File.OpenRead(s_path));
        List<string> used = ReferencedNames(file.GetMetadataReader());
        Assert.Contains("System.ReadOnlySpan`1", used); // or the reading of references is broken
        Assert.Equal([], used.FindAll(IsBanned));
    }

    [Theory]
    [InlineData("System.Threading.Thread", true)]
    [InlineData("System.Threading.Thread::Sleep", true)]
    [InlineData("System.Threading.Tasks.Task", true)]
    [InlineData("System.Threading.ThreadPool::UnsafeQueueUserWorkItem", true)]
    [InlineData("System.DateTime::get_UtcNow", true)]
    [InlineData("System.DateTime::get_Ticks", false)]
    [InlineData("System.Threading.Interlocked::Increment", false)]
    [InlineData("System.Random::Next", true)]
    [InlineData("System.Net.Sockets.SocketAsyncEventArgs", true)]
    [InlineData("System.Net.Sockets.SocketError", true)]
    [InlineData("System.Net.Sockets.AddressFamily", false)]
    public void IsBanned_KnownNames_AreToldApart(string name, bool banned) => Assert.Equal(banned, IsBanned(name));

    [Fact]
    public void Assembly_ReferencesOnlyTheBcl()
    {
        using var file = new PEReader(File.OpenRead(s_path));
        MetadataReader reader = file.GetMetadataReader();
        Assert.All(reader.AssemblyReferences, handle => Assert.StartsWith(
            "System.", reader.GetString(reader.GetAssemblyReference(handle).Name), StringComparison.Ordinal));
        Assert.Equal(0, reader.GetTableRowCount(TableIndex.ImplMap)); // P/Invoke
    }

    [Fact]
    public void Assembly_HasNoUnsafeCode()
    {
        using var file = new PEReader(File.OpenRead(s_path));
        MetadataReader reader = file.GetMetadataReader();
        Assert.DoesNotContain("System.Security.UnverifiableCodeAttribute", ReferencedNames(reader));

        var pointers = new PointerFinder();
        foreach (FieldDefinitionHandle handle in reader.FieldDefinitions)
        {
            FieldDefinition field = reader.GetFieldDefinition(handle);
            if (field.DecodeSignature(pointers, null))
                Assert.Fail($"field {reader.GetString(field.Name)} is a pointer");
        }
        foreach (MethodDefinitionHandle handle in reader.MethodDefinitions)
        {
            MethodDefinition method = reader.GetMethodDefinition(handle);
            MethodSignature<bool> signature = method.DecodeSignature(pointers, null);
            Assert.False(
                signature.ReturnType || signature.ParameterTypes.Contains(true), reader.GetString(method.Name));
            if (method.RelativeVirtualAddress == 0)
                continue;
            StandaloneSignatureHandle locals = file.GetMethodBody(method.RelativeVirtualAddress).LocalSignature;
            if (!locals.IsNil)
                Assert.DoesNotContain(true, reader.GetStandaloneSignature(locals).DecodeLocalSignature(pointers, null));
        }
    }

    /// <summary>The compiler's own helpers for inline arrays reinterpret references; nothing else may.</summary>
    [Fact]
    public void Assembly_ReinterpretsReferencesOnlyInCompilerHelpers()
    {
        using var file = new PEReader(File.OpenRead(s_path));
        MetadataReader reader = file.GetMetadataReader();
        HashSet<int> tokens = UnsafeTokens(reader);
        bool seenInHelpers = false;
        foreach (TypeDefinitionHandle typeHandle in reader.TypeDefinitions)
        {
            TypeDefinition type = reader.GetTypeDefinition(typeHandle);
            bool isHelper = reader.GetString(type.Name) == "<PrivateImplementationDetails>";
            foreach (MethodDefinitionHandle handle in type.GetMethods())
            {
                MethodDefinition method = reader.GetMethodDefinition(handle);
                if (method.RelativeVirtualAddress == 0)
                    continue;
                byte[] il = file.GetMethodBody(method.RelativeVirtualAddress).GetILBytes()!;
                bool uses = Enumerable.Range(0, Math.Max(il.Length - 4, 0))
                    .Any(i => il[i] == 0x28 && tokens.Contains(BitConverter.ToInt32(il, i + 1))); // call
                seenInHelpers |= isHelper && uses;
                Assert.True(isHelper || !uses, $"{reader.GetString(type.Name)}.{reader.GetString(method.Name)}");
            }
        }
        Assert.True(seenInHelpers); // or the search is broken
    }

    /// <summary>
    /// Tokens of the members of <c>System.Runtime.CompilerServices.Unsafe</c>, and of their instantiations.
    /// </summary>
    private static HashSet<int> UnsafeTokens(MetadataReader reader)
    {
        var tokens = new HashSet<int>();
        foreach (MemberReferenceHandle handle in reader.MemberReferences)
        {
            EntityHandle parent = reader.GetMemberReference(handle).Parent;
            if (parent.Kind == HandleKind.TypeReference
                && NameOf(reader, (TypeReferenceHandle)parent) == "System.Runtime.CompilerServices.Unsafe")
                tokens.Add(MetadataTokens.GetToken(handle));
        }
        for (int row = 1; row <= reader.GetTableRowCount(TableIndex.MethodSpec); row++)
        {
            MethodSpecificationHandle handle = MetadataTokens.MethodSpecificationHandle(row);
            if (tokens.Contains(MetadataTokens.GetToken(reader.GetMethodSpecification(handle).Method)))
                tokens.Add(MetadataTokens.GetToken(handle));
        }
        return tokens;
    }

    private static bool IsBanned(string name) =>
        s_banned.Any(banned => name.StartsWith(banned, StringComparison.Ordinal))
            && !s_allowed.Any(allowed => name.StartsWith(allowed, StringComparison.Ordinal));

    /// <summary>Types as <c>Namespace.Type</c>, members as <c>Namespace.Type::Member</c>.</summary>
    private static List<string> ReferencedNames(MetadataReader reader)
    {
        var names = new List<string>();
        foreach (TypeReferenceHandle handle in reader.TypeReferences)
            names.Add(NameOf(reader, handle));
        foreach (MemberReferenceHandle handle in reader.MemberReferences)
        {
            MemberReference member = reader.GetMemberReference(handle);
            if (member.Parent.Kind == HandleKind.TypeReference)
                names.Add($"{NameOf(reader, (TypeReferenceHandle)member.Parent)}::{reader.GetString(member.Name)}");
        }
        return names;
    }

    private static string NameOf(MetadataReader reader, TypeReferenceHandle handle)
    {
        TypeReference type = reader.GetTypeReference(handle);
        string name = reader.GetString(type.Name);
        return type.ResolutionScope.Kind == HandleKind.TypeReference
            ? $"{NameOf(reader, (TypeReferenceHandle)type.ResolutionScope)}+{name}"
            : $"{reader.GetString(type.Namespace)}.{name}";
    }

    /// <summary>Decodes a signature to: is there a pointer in it, or a pinned local?</summary>
    private sealed class PointerFinder : ISignatureTypeProvider<bool, object?>
    {
        public bool GetPointerType(bool elementType) => true;
        public bool GetFunctionPointerType(MethodSignature<bool> signature) => true;
        public bool GetPinnedType(bool elementType) => true;
        public bool GetArrayType(bool elementType, ArrayShape shape) => elementType;
        public bool GetByReferenceType(bool elementType) => elementType;
        public bool GetGenericInstantiation(
            bool genericType, System.Collections.Immutable.ImmutableArray<bool> typeArguments) =>
            typeArguments.Contains(true);
        public bool GetGenericMethodParameter(object? context, int index) => false;
        public bool GetGenericTypeParameter(object? context, int index) => false;
        public bool GetModifiedType(bool modifier, bool unmodifiedType, bool isRequired) => unmodifiedType;
        public bool GetPrimitiveType(PrimitiveTypeCode typeCode) => false;
        public bool GetSZArrayType(bool elementType) => elementType;
        public bool GetTypeFromDefinition(
            MetadataReader reader, TypeDefinitionHandle handle, byte rawTypeKind) => false;
        public bool GetTypeFromReference(MetadataReader reader, TypeReferenceHandle handle, byte rawTypeKind) => false;
        public bool GetTypeFromSpecification(
            MetadataReader reader, object? context, TypeSpecificationHandle handle, byte rawTypeKind) => false;
    }
}
