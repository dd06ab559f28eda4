namespace Xdp.TcpLite.Tests;

public class LateDataTests
{
    private const long Before = 5_000_000_000;

    private static readonly TcpStackOptions s_options = new()
    {
        AfterCloseBytes = 1000,
        AfterCloseSilence = TimeSpan.FromSeconds(5),
        AfterCloseTime = TimeSpan.FromSeconds(30),
    };

    private static readonly Instant s_start = new(TimeSpan.TicksPerHour);

    private LateData _late = new(Before);

    private static Instant At(double seconds) => s_start + TimeSpan.FromSeconds(seconds);

    [Theory]
    [InlineData(0, 1000)]
    [InlineData(1, 999)]
    [InlineData(1000, 0)]
    [InlineData(2000, 0)]
    public void Left_IsWhatTheOptionGivesFromTheCloseOn(long since, long left) =>
        Assert.Equal(left, _late.Left(Before + since, s_options));

    [Fact]
    public void TryTake_TheTimeCountsFromTheFirstByte()
    {
        Assert.True(_late.TryTake(s_options, At(1000)));
        Assert.True(_late.TryTake(s_options, At(1029.999)));
        Assert.False(_late.TryTake(s_options, At(1030)));
        Assert.False(_late.TryTake(s_options, At(2000)));
    }

    [Fact]
    public void Deadline_WhileMoreIsInvited_IsNever()
    {
        _late.TryTake(s_options, At(0));
        _late.OnProgress(s_options, At(10));
        Assert.Equal(Instant.Never, _late.Deadline);
    }

    [Fact]
    public void Deadline_OnceUsedUp_IsPutOffByProgressAloneAndNotBeyondTheEnd()
    {
        _late.TryTake(s_options, At(0));
        _late.OnUsedUp(s_options, At(1));
        Assert.Equal(At(6), _late.Deadline);
        // More data, as of what was invited before, is no progress.
        _late.TryTake(s_options, At(3));
        _late.OnUsedUp(s_options, At(3));
        Assert.Equal(At(6), _late.Deadline);
        _late.OnProgress(s_options, At(4));
        Assert.Equal(At(9), _late.Deadline);
        _late.OnProgress(s_options, At(28));
        Assert.Equal(At(30), _late.Deadline);
    }
}
