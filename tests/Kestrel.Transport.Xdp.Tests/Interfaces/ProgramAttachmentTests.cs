using Kestrel.Transport.Xdp.Internal.Interfaces;
using Kestrel.Transport.Xdp.Internal.Options;
using Microsoft.Extensions.Logging.Abstractions;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

/// <summary>Attachments that do not come about. Those that do are the system tests'.</summary>
public class ProgramAttachmentTests
{
    private const string NoInterface = "nosuch0";

    private readonly ProgramAttachment _attachment =
        new(NoInterface, FakeInterface.Settings(), NullLogger.Instance);

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
