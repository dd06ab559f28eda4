namespace Shared;

/// <summary>
/// What a test needs of the machine. Where it is missing, the test is skipped, visibly; with XDP_TESTS_REQUIRED=1 it
/// fails.
/// </summary>
internal static class Require
{
    internal static void Linux() => That(OperatingSystem.IsLinux(), "Linux");

    internal static void Root()
    {
        Linux();
        That(Environment.IsPrivilegedProcess, "root");
    }

    internal static void Tools(params IEnumerable<string> names)
    {
        foreach (string name in names)
            That(HasTool(name), name);
    }

    internal static void That(bool present, string what)
    {
        if (present)
            return;
        Assert.False(Environment.GetEnvironmentVariable("XDP_TESTS_REQUIRED") == "1", $"This test needs {what}.");
        Skip.If(true, $"This test needs {what}.");
    }

    /// <summary>Also where an ordinary user's PATH leaves out the administrator's directories.</summary>
    internal static bool HasTool(string name) =>
        $"{Environment.GetEnvironmentVariable("PATH")}:/usr/sbin:/sbin".Split(':')
            .Any(directory => File.Exists(Path.Combine(directory, name)));
}
