using System.Diagnostics;
using Xdp.Sockets;

/// <summary>
/// A second process for tests that kill one: the test assembly started as a program, with this class as its startup
/// hook (the runtime asks for this name, outside any namespace). It binds a socket, says "bound", and never comes back.
/// </summary>
internal static class StartupHook
{
    private const string Variable = "XDP_TESTS_HOLD";

    public static void Initialize()
    {
        if (Environment.GetEnvironmentVariable(Variable) is not { } argument)
            return;
        string[] parts = argument.Split(' ');
        using (NetworkNamespace.Enter(parts[0]))
        {
            XskOptions options = new() { InterfaceIndex = int.Parse(parts[1]), QueueId = 0, BindMode = BindMode.Copy };
            Xsk xsk = Xsk.Open(Umem.Create(new UmemOptions()), options, []);
            Console.WriteLine("bound");
            Thread.Sleep(Timeout.Infinite);
            GC.KeepAlive(xsk);
        }
    }

    internal static Process StartHolder(string namespacePath, int interfaceIndex)
    {
        string assembly = typeof(StartupHook).Assembly.Location;
        ProcessStartInfo start = new("dotnet", ["exec", assembly])
        {
            RedirectStandardOutput = true,
            Environment =
            {
                ["DOTNET_STARTUP_HOOKS"] = assembly,
                [Variable] = $"{namespacePath} {interfaceIndex}",
            },
        };
        return Process.Start(start)!;
    }
}
