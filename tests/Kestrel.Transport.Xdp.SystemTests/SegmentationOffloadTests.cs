using System.Net;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

/// <summary>Segments that go as one packet, whoever divides it.</summary>
[Collection(DirectCollection.Name)]
public sealed class SegmentationOffloadTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const string Counter = "kestrel.xdp.segments.offloaded";

    [SkippableTheory]
    [InlineData("tso on gso on tx on")]
    [InlineData("tso off gso on tx on")]
    [InlineData("tso off gso off tx off")]
    public async Task WhateverTheDeviceDivides_TheBytesArrive(string offloads)
    {
        Lab.Require("curl", "ethtool");
        try
        {
            await SetOffloadsAsync(offloads);
            await OnXdpAsync(lab.Server, new HelloWebSettings(), async server =>
            {
                foreach (IPAddress address in (IPAddress[])[Lab.ServerIp4, Lab.ServerIp6])
                    await TransferTests.EachWayAsync(lab, server, bytes: 10_000_000, seconds: 20, address);
                Counters counters = await server.CountersAsync();
                Assert.True(counters.Sum(Counter, "kestrel.xdp.result=sent") > 0);
                Assert.Equal(0, counters.Sum(Counter, "kestrel.xdp.result=refused"));
            });
        }
        finally
        {
            await SetOffloadsAsync("tso on gso on tx on");
        }
    }

    [SkippableFact]
    public async Task SwitchedOff_AllGoOnTheRing()
    {
        Lab.Require("curl");
        HelloWebSettings off = new() { Environment = { ["Kestrel__Xdp__SegmentationOffload"] = "false" } };
        await OnXdpAsync(lab.Server, off, AssertNoneIsOffloadedAsync);
    }

    /// <summary>
    /// In a queue of the kernel's they would be overtaken by what goes on the ring. Also in one that is added later.
    /// </summary>
    [SkippableFact]
    public async Task WithAQueueingDiscipline_AllGoOnTheRing_AsLongAsItIsThere()
    {
        Lab.Require("curl", "tc");
        try
        {
            await TcAsync($"qdisc add dev {Lab.Interface} root pfifo");
            await OnXdpAsync(lab.Server, new HelloWebSettings(), async server =>
            {
                await AssertNoneIsOffloadedAsync(server);
                await TcAsync($"qdisc del dev {Lab.Interface} root");
                await EventuallyOffloadsAsync(server, offloads: true);
                await TcAsync($"qdisc add dev {Lab.Interface} root pfifo");
                await EventuallyOffloadsAsync(server, offloads: false);
            });
        }
        finally
        {
            await lab.Server.RunAsync("tc", "qdisc", "del", "dev", Lab.Interface, "root");
        }
    }

    /// <summary>It would see partial checksums, which the TX ring's packets do not have.</summary>
    [SkippableFact]
    public async Task WhileTheClientsEndHasAnXdpProgram_AllGoOnTheRing()
    {
        Lab.Require("curl");
        await OnXdpAsync(lab.Server, new HelloWebSettings(), async server =>
        {
            await EventuallyOffloadsAsync(server, offloads: true);
            await using (await HelloWebServer.StartAsync(lab.Client, new HelloWebSettings { Interfaces = ["cli0"] }))
                await EventuallyOffloadsAsync(server, offloads: false);
            await EventuallyOffloadsAsync(server, offloads: true);
        });
    }

    private Task EventuallyOffloadsAsync(HelloWebServer server, bool offloads) => Eventually.TrueAsync(
        async () =>
        {
            double before = await OffloadedAsync(server);
            await TransferTests.EachWayAsync(lab, server, bytes: 2_000_000, seconds: 10);
            return await OffloadedAsync(server) > before == offloads;
        },
        () => $"Segments {(offloads ? "do not" : "still")} go as one.");

    private async Task AssertNoneIsOffloadedAsync(HelloWebServer server)
    {
        await TransferTests.EachWayAsync(lab, server, bytes: 2_000_000, seconds: 10);
        Assert.Equal(0, await OffloadedAsync(server));
    }

    private static async Task<double> OffloadedAsync(HelloWebServer server) =>
        (await server.CountersAsync()).Sum(Counter, "kestrel.xdp.result=sent");

    private async Task SetOffloadsAsync(string offloads) =>
        (await lab.Server.RunAsync(["ethtool", "-K", Lab.Interface, .. offloads.Split(' ')])).Succeeded();

    private async Task TcAsync(string arguments) =>
        (await lab.Server.RunAsync(["tc", .. arguments.Split(' ')])).Succeeded();
}
