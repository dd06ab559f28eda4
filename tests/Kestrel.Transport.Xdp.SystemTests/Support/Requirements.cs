using Shared;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>What the machine must offer for a lab to be made, and AF_XDP to be had.</summary>
internal static class Requirements
{
    // What the lab itself needs.
    private static readonly string[] LabTools = ["ip", "ss", "ethtool"];

    private static readonly Lazy<string?> LabLacks = new(FindMissingForLab);

    /// <summary>Null where a lab can be made and AF_XDP be had.</summary>
    internal static string? MissingForLab => LabLacks.Value;

    private static string? FindMissingForLab()
    {
        if (!OperatingSystem.IsLinux())
            return "Linux";
        if (!Environment.IsPrivilegedProcess)
            return "root";
        if (LabTools.FirstOrDefault(tool => !Require.HasTool(tool)) is { } tool)
            return tool;
        return File.ReadLines("/proc/net/protocols").Any(line => line.StartsWith("XDP ", StringComparison.Ordinal))
            ? null
            : "a kernel with AF_XDP";
    }
}
