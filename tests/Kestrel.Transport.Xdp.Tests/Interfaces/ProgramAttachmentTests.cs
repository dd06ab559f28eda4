using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Internal.Options;
using Microsoft.Extensions.Logging.Abstractions;
using Xdp.Sockets.Net;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

/// <summary>Attachments that do not come about. Those that do are the system tests'.</summary>
public class ProgramAttachmentTests
{
    private const string NoInterface = "nosuch0";

    private readonly ProgramAttachment _attachment =
        new(NoInterface, FakeInterface.Settings(), NullLogger.Instance, static _ => false);

    [SkippableFact]
    public void MissingInterface_IsSaid_AndNotTriedAgainAtOnce()
    {
        Skip.IfNot(OperatingSystem.IsLinux());
        Assert.True(_attachment.MayTry(now: 0));
        Assert.False(_attachment.TryLoad(TimeSpan.Zero, SourceLists.None, now: 0));
        Assert.Equal("there is no interface nosuch0", _attachment.Failure);
        Assert.Null(_attachment.Program);
        Assert.Null(_attachment.Device);
        Assert.False(_attachment.MayTry(ProgramAttachment.RetryAfter - 1));
        Assert.True(_attachment.MayTry(ProgramAttachment.RetryAfter));
    }

    /// <summary>Packets of the VLAN would be taken for the interface's own.</summary>
    [Fact]
    public void NicThatTakesOutTags_UnderVlans_IsRefused_AndSaysWhatHelps()
    {
        NetworkInterfaceInfo[] all =
            [FakeInterface.Device() with { StripsVlanTags = true }, Vlan("eth7.5", lower: 7), Vlan("eth9.6", lower: 9)];
        var attachment = new ProgramAttachment(
            "eth7", FakeInterface.Settings(), NullLogger.Instance, static _ => false, () => all);
        Assert.False(attachment.TryLoad(TimeSpan.Zero, SourceLists.None, now: 0));
        Assert.Equal(
            "eth7 takes VLAN tags out of packets, so that those for eth7.5 could not be told from its own: "
                + "ethtool -K eth7 rxvlan off",
            attachment.Failure);
    }

    [Fact]
    public void VlanTags_ThatAreSeen_OrNobodys_AreNoReason()
    {
        NetworkInterfaceInfo strips = FakeInterface.Device() with { StripsVlanTags = true };
        Assert.NotNull(VlanTags.WhyNot(strips, [strips, Vlan("vlan5", lower: 7)]));
        Assert.NotNull(VlanTags.WhyNot(strips with { MasterIndex = 8 }, [strips, Vlan("bond0.5", lower: 8)]));
        Assert.Null(VlanTags.WhyNot(strips with { StripsVlanTags = false }, [strips, Vlan("vlan5", lower: 7)]));
        Assert.Null(VlanTags.WhyNot(strips, [strips, Vlan("vlan5", lower: 9), Vlan("vlan6", lower: 0)]));
        Assert.Null(VlanTags.WhyNot(strips, [strips, Vlan("macvlan5", lower: 7) with { Kind = "macvlan" }]));
    }

    private static NetworkInterfaceInfo Vlan(string name, int lower) =>
        FakeInterface.Device(name) with { Index = 100 + lower, Kind = "vlan", LowerIndex = lower };

    [Fact]
    public void DeviceThatComesUp_IsTriedAtOnce()
    {
        _attachment.RetryLater(now: 0);
        _attachment.ConsiderDevice(null);
        _attachment.ConsiderDevice(FakeInterface.Device(NoInterface) with { IsUp = false });
        Assert.False(_attachment.MayTry(now: 1));
        _attachment.ConsiderDevice(FakeInterface.Device(NoInterface));
        Assert.True(_attachment.MayTry(now: 1));
    }

    [Fact]
    public void GivenUp_UntilTheDeviceHasGoneDownAndComesUp()
    {
        _attachment.Release("it does not work", now: 0);
        _attachment.GiveUp();
        Assert.False(_attachment.MayTry(long.MaxValue - 1));
        _attachment.ConsiderDevice(FakeInterface.Device(NoInterface) with { IsUp = false });
        Assert.False(_attachment.MayTry(long.MaxValue - 1));
        _attachment.ConsiderDevice(FakeInterface.Device(NoInterface));
        Assert.True(_attachment.MayTry(now: 1));
    }

    [Fact]
    public void QueuesRefused_PausesGrow_UntilAllAreOpen()
    {
        long first = (long)RetryPause.First.TotalMilliseconds;
        _attachment.RetryLater(now: 0);
        Assert.True(_attachment.MayTry(first));
        _attachment.QueuesOpened(all: false, now: 0);
        Assert.Null(_attachment.Failure);
        Assert.False(_attachment.MayTry(2 * first - 1));
        Assert.True(_attachment.MayTry(2 * first));
        _attachment.QueuesOpened(all: true, now: 0);
        _attachment.RetryLater(now: 0);
        Assert.True(_attachment.MayTry(first));
    }

    [Fact]
    public void Release_GivesTheReason_AndWaits()
    {
        _attachment.Detach();
        _attachment.Release("it is gone", now: 0);
        Assert.Equal("it is gone", _attachment.Failure);
        Assert.False(_attachment.MayTry(ProgramAttachment.RetryAfter - 1));
        Assert.True(_attachment.MayTry(ProgramAttachment.RetryAfter));
    }
}
