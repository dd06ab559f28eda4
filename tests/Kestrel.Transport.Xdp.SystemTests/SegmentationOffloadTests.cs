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
                // Some go alone: the first of a connection, and what a small window leaves.
                Assert.InRange(counters.Sum(Counter, "kestrel.xdp.result=sent"), 5_000, 30_000);
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

    /// <summary>In a queue of the kernel's they would be overtaken by what goes on the ring.</summary>
    [SkippableFact]
    public async Task WithAQueueingDiscipline_AllGoOnTheRing()
    {
        Lab.Require("curl", "tc");
        try
        {
            await TcAsync($"qdisc add dev {Lab.Interface} root pfifo");
            await OnXdpAsync(lab.Server, new HelloWebSettings(), AssertNoneIsOffloadedAsync);
        }
        finally
        {
            await TcAsync($"qdisc del dev {Lab.Interface} root");
        }
    }

    /// <summary>A veth divides by itself as long as the other end has no XDP program.</summary>
    [SkippableFact]
    public async Task TheClientsEndGetsAProgram_TheBytesArrive()
    {
        Lab.Require("curl");
        await OnXdpAsync(lab.Server, new HelloWebSettings(), async server =>
        {
            await TransferTests.EachWayAsync(lab, server, bytes: 1_000_000, seconds: 10);
            await using HelloWebServer other =
                await HelloWebServer.StartAsync(lab.Client, new HelloWebSettings { Interfaces = ["cli0"] });
            await TransferTests.EachWayAsync(lab, server, bytes: 10_000_000, seconds: 20);
        });
    }

    private async Task AssertNoneIsOffloadedAsync(HelloWebServer server)
    {
        await TransferTests.EachWayAsync(lab, server, bytes: 2_000_000, seconds: 10);
        Assert.Equal(0, (await server.CountersAsync()).Sum(Counter, "kestrel.xdp.result=sent"));
    }

    private async Task SetOffloadsAsync(string offloads) =>
        (await lab.Server.RunAsync(["ethtool", "-K", Lab.Interface, .. offloads.Split(' ')])).Succeeded();

    private async Task TcAsync(string arguments) =>
        (await lab.Server.RunAsync(["tc", .. arguments.Split(' ')])).Succeeded();
}
