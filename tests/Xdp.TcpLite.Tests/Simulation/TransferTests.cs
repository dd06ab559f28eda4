namespace Xdp.TcpLite.Tests.Simulation;

public class TransferTests
{
    private const TcpEvents s_failures = TcpEvents.Reset | TcpEvents.TimedOut;

    private static readonly LinkOptions s_clean = new();

    /// <summary>Seeds a link; more when SIMULATION_SEEDS says so.</summary>
    private static readonly int s_seeds = int.Parse(
        Environment.GetEnvironmentVariable("SIMULATION_SEEDS") ?? "3",
        System.Globalization.CultureInfo.InvariantCulture);

    public static TheoryData<string, int, bool, bool> Cases()
    {
        var cases = new TheoryData<string, int, bool, bool>();
        string[] links =
            ["clean", "loss", "burst", "reorder", "duplicate", "corrupt", "bottleneck", "everything"];
        foreach (string link in links)
        {
            for (int seed = 1; seed <= s_seeds; seed++)
            {
                cases.Add(link, seed, false, false);
                cases.Add(link, seed, true, true);
            }
        }
        return cases;
    }

    private static LinkOptions Link(string name) => name switch
    {
        "clean" => s_clean,
        "loss" => s_clean with { Loss = 0.03 },
        "burst" => s_clean with { Loss = 0.02, LossBurst = 4 },
        "reorder" => s_clean with { Reorder = 0.05 },
        "duplicate" => s_clean with { Duplicate = 0.05 },
        "corrupt" => s_clean with { Corrupt = 0.02 },
        "bottleneck" => s_clean with { Rate = 20_000_000, Buffer = 64 << 10 },
        "everything" => s_clean with
        {
            Loss = 0.02,
            LossBurst = 3,
            Reorder = 0.02,
            Duplicate = 0.02,
            Corrupt = 0.01,
            Jitter = TimeSpan.FromMilliseconds(3),
            Rate = 50_000_000,
        },
        _ => throw new ArgumentOutOfRangeException(nameof(name)),
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void Transfer_BothWays_EveryByteArrivesOnceAndAllComesHome(
        string link, int seed, bool useFrames, bool ipv6) =>
        TransferBothWays(link, seed, useFrames, ipv6, SimHost.FrameSize);

    /// <summary>Each full segment comes in four frames.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void Transfer_InParts_EveryByteArrivesOnceAndAllComesHome(
        string link, int seed, bool useFrames, bool ipv6) =>
        TransferBothWays(link, seed, useFrames, ipv6, partLength: 401);

    private static void TransferBothWays(string link, int seed, bool useFrames, bool ipv6, int partLength)
    {
        // Even seeds run without a link layer.
        var options = new TcpStackOptions
        {
            ForceHeap = !useFrames,
            Link = seed % 2 == 0 ? LinkType.Ip : LinkType.Ethernet,
        };
        var network = new Network(
            seed, Link(link), client: options, server: options, ipv6: ipv6, completionLag: useFrames ? 3 : 0,
            partLength: partLength);
        const long up = 1_500_000, down = 2_000_000;
        TcpConnection opened = network.Connect(40000);
        var client = new SimApplication(network.Client, opened, 1, 2, up) { UseFrames = useFrames };
        SimApplication? server = null;

        bool done = network.Run(() =>
        {
            if (server is null && network.Server.Stack.TryAccept(out TcpConnection? accepted))
            {
                server = new SimApplication(network.Server, accepted, 2, 1, down) { UseFrames = useFrames };
                server.Step(accepted.TakeEvents());
            }
            Drain(network.Client, client);
            Drain(network.Server, server);
            return client.Closed && server is { Closed: true };
        });

        Assert.True(
            done,
            $"replay: SIMULATION_SEEDS={seed} dotnet test -c Release tests/Xdp.TcpLite.Tests "
            + $"--filter \"DisplayName~{link}&DisplayName~seed: {seed},\"\n"
            + $"stalled at {network.Now}: client {opened.GetInfo(network.Now)}\n"
            + $"server {server?.Connection.GetInfo(network.Now)}");
        Assert.Equal((TcpEvents.None, TcpEvents.None), (client.Seen & s_failures, server!.Seen & s_failures));
        Assert.Equal(down, client.Received);
        Assert.Equal(up, server.Received);
        network.Settle();
        foreach (SimHost host in new[] { network.Client, network.Server })
        {
            Assert.Equal(0, host.Outstanding);
            Assert.Equal(0, host.Stack.ConnectionCount);
            Assert.Equal(0, host.Stack.TimeWaitCount);
        }
    }

    [Fact]
    public void Transfer_SendBufferMax_BoundsWhatIsInFlight()
    {
        const int max = 20_000;
        var network = new Network(1, s_clean, server: new TcpStackOptions { SendBufferMax = max });
        var client = new SimApplication(network.Client, network.Connect(40000), 1, 2, 0);
        SimApplication? server = null;
        long most = 0;

        bool done = network.Run(() =>
        {
            if (server is null && network.Server.Stack.TryAccept(out TcpConnection? accepted))
                server = new SimApplication(network.Server, accepted, 2, 1, 500_000);
            Drain(network.Client, client);
            Drain(network.Server, server);
            most = Math.Max(most, server?.Connection.GetInfo(network.Now).Unacked ?? 0);
            return client.Closed && server is { Closed: true };
        });

        Assert.True(done);
        Assert.Equal(500_000, client.Received);
        Assert.InRange(most, max / 2, max);
    }

    private static void Drain(SimHost host, SimApplication? application)
    {
        while (host.Stack.TryTakeReady(out TcpConnection connection))
        {
            TcpEvents events = connection.TakeEvents();
            if (application is not null)
                application.Step(events);
        }
        application?.Step(TcpEvents.None);
    }
}
