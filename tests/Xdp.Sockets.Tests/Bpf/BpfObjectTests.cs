using System.Runtime.InteropServices;
using System.Text.Json;
using Xdp.Sockets.Bpf;
using Xdp.Sockets.Interop;
using Xdp.Sockets.Tests.Net;

namespace Xdp.Sockets.Tests.Bpf;

/// <summary>The loader; bpftool loading the same object is the oracle.</summary>
public class BpfObjectTests
{
    private static readonly string[] s_mapProperties =
        ["name", "type", "bytes_key", "bytes_value", "max_entries", "flags"];

    private static readonly byte[] s_return2 = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]; // r0 = 2; exit

    [SkippableTheory]
    [InlineData("xdp_steer.bpf.o")]
    [InlineData("lab_impair.bpf.o")]
    public void Load_MatchesBpftool(string name)
    {
        TestNetwork.Require("bpftool", "unshare");
        byte[] elf = Read(name);
        string directory = Directory.CreateTempSubdirectory("bpft").FullName;
        try
        {
            File.WriteAllBytes($"{directory}/o", elf);
            Directory.CreateDirectory($"{directory}/fs");
            // The BPF file system is mounted in a mount namespace of the shell's own. It goes with the shell, and so
            // does all that is pinned.
            string output = TestNetwork.Shell(
                $"cd {directory} && unshare -m sh -ec '" +
                "mount -t bpf bpf fs; bpftool prog loadall o fs/p pinmaps fs/m >&2; " +
                "for p in fs/p/*; do bpftool -j prog show pinned $p; echo; done; " +
                "for m in fs/m/*; do bpftool -j map show pinned $m; echo; done'");

            using BpfObject loaded = BpfObject.Load(elf);
            var programs = new List<string>();
            var maps = new List<string>();
            foreach (string line in output.Split('\n', StringSplitOptions.RemoveEmptyEntries))
            {
                JsonElement json = JsonDocument.Parse(line).RootElement;
                if (json.TryGetProperty("tag", out JsonElement tag))
                    programs.Add($"{json.GetProperty("name")} {tag}");
                else
                    maps.Add(string.Join(' ', s_mapProperties.Select(property => json.GetProperty(property))));
            }
            Assert.NotEmpty(programs);
            Assert.Equal(programs.Order(), loaded.Programs.Values.Select(p => $"{p.Name} {p.Tag}").Order());
            Assert.Equal(maps.Order(), loaded.Maps.Values.Select(m => Describe(m.Definition)).Order());
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    /// <summary>In bpftool's words: <see cref="s_mapProperties"/>.</summary>
    private static string Describe(BpfMapDefinition map)
    {
        string type = map.Type switch
        {
            BpfMapType.PerCpuArray => "percpu_array",
            BpfMapType.LpmTrie => "lpm_trie",
            _ => map.Type.ToString().ToLowerInvariant(),
        };
        string name = map.Name[..Math.Min(15, map.Name.Length)];
        return $"{name} {type} {map.KeySize} {map.ValueSize} {map.MaxEntries} {map.Flags}";
    }

    [Fact]
    public void Parse_CutShort_IsInvalidData()
    {
        byte[] elf = Read("lab_impair.bpf.o");
        for (int length = 0; length < elf.Length; length += 97)
            Assert.Throws<InvalidDataException>(() => BpfElf.Parse(elf.AsSpan(0, length)));
    }

    [Fact]
    public void Parse_NotForBpf_IsInvalidData()
    {
        Assert.Throws<InvalidDataException>(() => BpfElf.Parse("MZ"u8));
        Assert.Throws<InvalidDataException>(() => BpfElf.Parse(File.ReadAllBytes("/proc/self/exe")));
    }

    [SkippableFact]
    public void Load_RefusedProgram_TellsWhatTheVerifierSays()
    {
        TestNetwork.Require();
        byte[] exitOnly = s_return2[8..];
        XdpException e = Assert.Throws<XdpException>(
            () => BpfProgram.Load("bad", BpfNative.BPF_PROG_TYPE_XDP, BpfNative.BPF_XDP, exitOnly, "GPL\0"u8));
        Assert.Contains("R0 !read_ok", e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', e.Message);
        Assert.Contains("\nprocessed ", e.Details, StringComparison.Ordinal);
        Assert.Contains("\"bad\", 1 instructions", e.Call, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void Load_AdjustedMap_IsCreatedSo()
    {
        TestNetwork.Require();
        using BpfObject loaded =
            BpfObject.Load(Read("xdp_steer.bpf.o"), map => map.Name == "endpoints" ? map with { MaxEntries = 2 } : map);
        BpfMap endpoints = loaded.Maps["endpoints"];
        Assert.Equal(2, endpoints.Definition.MaxEntries);
        for (byte i = 0; i < 2; i++)
            endpoints.Update([i, .. new byte[23]], new byte[4]);
        XdpException e = Assert.Throws<XdpException>(() => endpoints.Update([2, .. new byte[23]], new byte[4]));
        Assert.Contains("2 entries", e.Message, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void Map_UpdateLookupDeleteKeys()
    {
        TestNetwork.Require();
        using var map = BpfMap.Create(new BpfMapDefinition("test", BpfMapType.Hash, 4, 8, 100, 0));
        Assert.Empty(map.Keys());
        Assert.False(map.TryLookup(1u, out ulong _));
        for (uint i = 0; i < 100; i++)
            map.Update(i, (ulong)i * i);
        Assert.True(map.TryLookup(9u, out ulong value));
        Assert.Equal(81ul, value);
        Assert.Equal(Enumerable.Range(0, 100).Select(i => (uint)i), map.Keys<uint>().Order());
        Assert.True(map.Delete(9u));
        Assert.False(map.Delete(9u));
        Assert.Equal(99, map.Keys().Count);
        Assert.Throws<ArgumentException>(() => map.Update(1u, 1u));
        Assert.Throws<ArgumentException>(() => map.Update((ushort)1, 1ul));
        map.Dispose();
        Assert.Throws<ObjectDisposedException>(() => map.Keys());
    }

    [SkippableFact]
    public void Map_PerCpu_SumsAllCpus()
    {
        TestNetwork.Require();
        using var map = BpfMap.Create(new BpfMapDefinition("test", BpfMapType.PerCpuArray, 4, 8, 2, 0));
        string possible = File.ReadAllText("/sys/devices/system/cpu/possible").Trim();
        int cpus = int.Parse(possible.Split('-')[^1], null) + 1;
        ulong[] values = [.. Enumerable.Range(1, cpus).Select(i => (ulong)i)];
        map.Update(MemoryMarshal.AsBytes<uint>([1u]), MemoryMarshal.AsBytes<ulong>(values));
        Assert.Equal((ulong)(cpus * (cpus + 1) / 2), map.SumPerCpu(1u));
        Assert.Equal(0ul, map.SumPerCpu(0u));
        Assert.Equal(0ul, map.SumPerCpu(2u));
    }

    [SkippableFact]
    public void TestRun_AnswersActionLengthAndPacket()
    {
        TestNetwork.Require();
        using BpfProgram program =
            BpfProgram.Load("pass", BpfNative.BPF_PROG_TYPE_XDP, BpfNative.BPF_XDP, s_return2, "GPL\0"u8);
        byte[] packet = [.. Enumerable.Range(0, 64).Select(i => (byte)i)], output = new byte[64];
        BpfTestResult result = program.TestRun(packet, repeat: 10, output: output);
        Assert.Equal(XdpAction.Pass, result.Action);
        Assert.Equal(64, result.Length);
        Assert.Equal(packet, output);
        Assert.Throws<XdpException>(() => program.TestRun(new byte[13]));
    }

    internal static byte[] Read(string name)
    {
        if (File.Exists(Path.Combine(AppContext.BaseDirectory, name)))
            return File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, name));
        using Stream stream = typeof(BpfObjectTests).Assembly.GetManifestResourceStream(name)!;
        byte[] bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }
}
