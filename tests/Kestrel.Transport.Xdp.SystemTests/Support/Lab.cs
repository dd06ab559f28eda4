using System.Globalization;
using System.Net;
using Shared;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>
/// One lab for all tests of a collection, made by the repository's <c>lab</c> script under a name of this process's
/// own. Where the machine lacks what a lab needs there is none, and <see cref="Require"/> says so.
/// </summary>
public abstract class Lab(string shape, int queues = 1, int links = 1) : IAsyncLifetime
{
    private const string Prefix = "systest";

    private readonly LabScript _script = new($"{Prefix}-{Environment.ProcessId}-{shape}{queues}{links}");

    /// <summary>The server's interface.</summary>
    internal const string Interface = "srv0";

    /// <summary>The client's, at the other end of it.</summary>
    internal const string ClientInterface = "cli0";

    internal static readonly IPAddress ServerIp4 = IPAddress.Parse("10.77.0.1");
    internal static readonly IPAddress ServerIp6 = IPAddress.Parse("fd77::1");

    internal Namespace Server => new(_script.Namespace("server"));

    internal Namespace Client => new(_script.Namespace("client"));

    private protected LabScript Script => _script;

    internal static void Require(params string[] tools)
    {
        Shared.Require.That(Requirements.MissingForLab is null, $"{Requirements.MissingForLab}");
        Shared.Require.Tools(tools);
    }

    public async Task InitializeAsync()
    {
        if (Requirements.MissingForLab is not null)
            return;
        await RemoveLeftoversAsync();
        await _script.RunAsync("up", shape, "--queues", $"{queues}", "--links", $"{links}");
    }

    public async Task DisposeAsync()
    {
        if (Requirements.MissingForLab is null)
            await _script.RunAsync("down");
    }

    // A test process that was killed leaves its lab behind.
    private static async Task RemoveLeftoversAsync()
    {
        if (!Directory.Exists("/run/netns"))
            return;
        foreach (string server in Directory.GetFiles("/run/netns", $"{Prefix}-*-server"))
        {
            string name = Path.GetFileName(server)[..^"-server".Length];
            if (!Directory.Exists($"/proc/{name.Split('-')[1]}"))
                await new LabScript(name).RunAsync("down");
        }
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

    internal Namespace Router => new(Script.Namespace("router"));

    /// <summary>The path is bad until the result is disposed. Arguments of <c>lab impair</c>.</summary>
    internal async Task<Impairment> ImpairAsync(params string[] arguments)
    {
        await Script.RunAsync(["impair", .. arguments]);
        return new Impairment(Script);
    }
}

internal sealed class Impairment(LabScript lab) : IAsyncDisposable
{
    /// <summary>For instance <c>FROM_SERVER_LOST</c>.</summary>
    internal async Task<IReadOnlyDictionary<string, long>> CountsAsync() =>
        LabScript.Values(await lab.RunAsync("impair", "show"))
            .ToDictionary(count => count.Key, count => long.Parse(count.Value, CultureInfo.InvariantCulture));

    public async ValueTask DisposeAsync() => await lab.RunAsync("impair", "off");
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
