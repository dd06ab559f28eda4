using System.Globalization;
using System.Net;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>
/// One lab for all tests of a collection, made by the repository's <c>lab</c> script under a name of this process's own. Without what
/// it takes there is none, and <see cref="Require"/> says so.
/// </summary>
public abstract class Lab(string shape, int queues = 1) : IAsyncLifetime
{
    private const string Prefix = "systest";

    private readonly string _name = $"{Prefix}-{Environment.ProcessId}-{shape}{queues}";

    /// <summary>The server's interface.</summary>
    internal const string Interface = "srv0";

    internal static readonly IPAddress ServerIp4 = IPAddress.Parse("10.77.0.1");
    internal static readonly IPAddress ServerIp6 = IPAddress.Parse("fd77::1");

    internal static string Root { get; } = FindRoot();

    internal Namespace Server => new($"{_name}-server");

    internal Namespace Client => new($"{_name}-client");

    internal static void Require(params string[] tools) => Requirements.Require(tools);

    public async Task InitializeAsync()
    {
        if (Requirements.MissingForLab is not null)
            return;
        await RemoveLeftoversAsync();
        (await ScriptAsync(_name, "up", shape, "--queues", $"{queues}")).Succeeded();
    }

    public async Task DisposeAsync()
    {
        if (Requirements.MissingForLab is null)
            (await ScriptAsync(_name, "down")).Succeeded();
    }

    internal async Task<string> ScriptAsync(params string[] arguments) => (await ScriptAsync(_name, arguments)).Succeeded();

    private static Task<CommandResult> ScriptAsync(string name, params string[] arguments) =>
        Command.RunAsync([Path.Combine(Root, "lab"), .. arguments], new Dictionary<string, string> { ["LAB_NAME"] = name });

    // A test process that was killed leaves its lab behind.
    private static async Task RemoveLeftoversAsync()
    {
        if (!Directory.Exists("/run/netns"))
            return;
        foreach (string server in Directory.GetFiles("/run/netns", $"{Prefix}-*-server"))
        {
            string name = Path.GetFileName(server)[..^"-server".Length];
            if (!Directory.Exists($"/proc/{name.Split('-')[1]}"))
                await ScriptAsync(name, "down");
        }
    }

    private static string FindRoot()
    {
        string? directory = AppContext.BaseDirectory;
        while (directory is not null && !File.Exists(Path.Combine(directory, "Transport.sln")))
            directory = Path.GetDirectoryName(directory);
        return directory ?? throw new InvalidOperationException("Transport.sln is in no parent directory.");
    }
}

/// <summary>Client and server, one veth pair.</summary>
public sealed class DirectLab() : Lab("direct");

/// <summary>The same with two queues to each interface.</summary>
public sealed class TwoQueueLab() : Lab("direct", queues: 2);

/// <summary>A router between them, and no segmentation offloads.</summary>
public sealed class RouterLab() : Lab("router")
{
    /// <summary>The router's address towards the client.</summary>
    internal static readonly IPAddress ClientSideIp4 = IPAddress.Parse("10.77.1.254");

    internal static readonly string[] Interfaces = ["rtc0", "rts0"];

    internal Namespace Router => new(Server.Name.Replace("-server", "-router", StringComparison.Ordinal));

    /// <summary>The path is bad until the result is disposed. Arguments of <c>lab impair</c>.</summary>
    internal async Task<Impairment> ImpairAsync(params string[] arguments)
    {
        await ScriptAsync(["impair", .. arguments]);
        return new Impairment(this);
    }
}

internal sealed class Impairment(RouterLab lab) : IAsyncDisposable
{
    /// <summary>For instance <c>FROM_SERVER_LOST</c>.</summary>
    internal async Task<IReadOnlyDictionary<string, long>> CountsAsync() =>
        (await lab.ScriptAsync("impair", "show")).Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split('='))
        .ToDictionary(pair => pair[0], pair => long.Parse(pair[1], CultureInfo.InvariantCulture));

    public async ValueTask DisposeAsync() => await lab.ScriptAsync("impair", "off");
}

[CollectionDefinition(Name)]
public sealed class DirectCollection : ICollectionFixture<DirectLab>
{
    internal const string Name = "direct";
}

[CollectionDefinition(Name)]
public sealed class TwoQueueCollection : ICollectionFixture<TwoQueueLab>
{
    internal const string Name = "direct, two queues";
}

[CollectionDefinition(Name)]
public sealed class RouterCollection : ICollectionFixture<RouterLab>
{
    internal const string Name = "router";
}
