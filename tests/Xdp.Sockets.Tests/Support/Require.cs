namespace Xdp.Sockets.Tests.Support;

/// <summary>What a test needs of the machine. Missing, the test is skipped; with XDP_TESTS_REQUIRED=1 it fails.</summary>
internal static class Require
{
    internal static void Linux() => That(OperatingSystem.IsLinux(), "Linux");

    internal static void Root()
    {
        Linux();
        That(Environment.IsPrivilegedProcess, "root");
    }

    internal static void That(bool present, string what)
    {
        if (present)
            return;
        if (Environment.GetEnvironmentVariable("XDP_TESTS_REQUIRED") == "1")
            Assert.Fail($"XDP_TESTS_REQUIRED=1, and this test wants {what}.");
        Skip.If(true, $"This test wants {what}.");
    }
}
