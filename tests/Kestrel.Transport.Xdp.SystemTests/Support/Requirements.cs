namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>What the machine must offer. Where it does not, a test is skipped, visibly; with XDP_TESTS_REQUIRED=1 it fails.</summary>
internal static class Requirements
{
    // What the lab itself needs.
    private static readonly string[] LabTools = ["ip", "ss", "ethtool"];

    private static readonly Lazy<string?> LabLacks = new(FindMissingForLab);

    /// <summary>Null where a lab can be made and AF_XDP be had.</summary>
    internal static string? MissingForLab => LabLacks.Value;

    internal static void Require(params string[] tools)
    {
        string? missing = MissingForLab ?? tools.FirstOrDefault(tool => !HasTool(tool));
        if (missing is null)
            return;
        Assert.False(Environment.GetEnvironmentVariable("XDP_TESTS_REQUIRED") == "1", $"This test needs {missing}.");
        Skip.If(true, $"This test needs {missing}.");
    }

    private static bool HasTool(string name) =>
        $"{Environment.GetEnvironmentVariable("PATH")}:/usr/sbin:/sbin".Split(':').Any(directory => File.Exists(Path.Combine(directory, name)));

    private static string? FindMissingForLab()
    {
        if (!OperatingSystem.IsLinux())
            return "Linux";
        if (!Environment.IsPrivilegedProcess)
            return "root";
        if (LabTools.FirstOrDefault(tool => !HasTool(tool)) is { } tool)
            return tool;
        return File.ReadLines("/proc/net/protocols").Any(line => line.StartsWith("XDP ", StringComparison.Ordinal)) ? null : "a kernel with AF_XDP";
    }
}
