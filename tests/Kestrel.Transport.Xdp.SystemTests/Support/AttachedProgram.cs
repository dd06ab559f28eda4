using System.Globalization;
using System.Text.Json;
using Shared;
using Xdp.Sockets.Bpf;
using Xdp.Sockets.Net;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>The XDP program on a server's interface, as an administrator sees it and takes it off.</summary>
internal static class AttachedProgram
{
    /// <summary>Null when there is none.</summary>
    internal static XdpAttachment? On(Namespace server) => Device(server).Xdp;

    internal static NetworkInterfaceInfo Device(Namespace server) =>
        server.Enter(() => NetworkInterfaceInfo.Get(Lab.Interface)!);

    /// <summary>Links of others are not touched: ours is the one whose program the interface has.</summary>
    internal static async Task DetachAsync(Namespace server)
    {
        uint program = On(server)!.Value.ProgramId;
        using JsonDocument links = await BpftoolAsync("link", "show");
        JsonElement link = links.RootElement.EnumerateArray().Single(link =>
            link.GetProperty("type").GetString() == "xdp" && link.GetProperty("prog_id").GetUInt32() == program);
        string id = link.GetProperty("id").GetUInt32().ToString(CultureInfo.InvariantCulture);
        (await Command.RunAsync(["bpftool", "link", "detach", "id", id])).Succeeded();
    }

    /// <summary>The number of a map that it has.</summary>
    internal static async Task<uint> MapAsync(Namespace server, string name)
    {
        using JsonDocument program = await BpftoolAsync("prog", "show", "id", $"{On(server)!.Value.ProgramId}");
        uint[] maps = [.. program.RootElement.GetProperty("map_ids").EnumerateArray().Select(map => map.GetUInt32())];
        using JsonDocument all = await BpftoolAsync("map", "show");
        return all.RootElement.EnumerateArray()
            .Where(map => map.TryGetProperty("name", out JsonElement own) && own.GetString() == name)
            .Select(map => map.GetProperty("id").GetUInt32()).Single(maps.Contains);
    }

    private static async Task<JsonDocument> BpftoolAsync(params string[] arguments) =>
        JsonDocument.Parse((await Command.RunAsync(["bpftool", "-j", .. arguments])).Succeeded());
}
