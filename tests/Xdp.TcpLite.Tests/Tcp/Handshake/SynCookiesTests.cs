namespace Xdp.TcpLite.Tests;

public class SynCookiesTests
{
    private static readonly byte[] s_secret = [.. Enumerable.Range(0, 32).Select(i => (byte)(i * 11))];
    private static readonly SynCookies s_cookies = new(s_secret);
    private static readonly Instant s_now = new(TimeSpan.FromDays(3).Ticks + 12345);

    private static readonly Packet s_syn = new()
    {
        Flow = SegmentBuilder.FlowV4,
        Seq = new SeqNumber(0xfffffff0),
        Flags = TcpFlags.Syn,
        Mss = 1460,
    };

    private static Packet AckFor(in Packet syn, SeqNumber cookie, uint tsVal) => new()
    {
        Flow = syn.Flow,
        Seq = syn.Seq + 1,
        Ack = cookie + 1,
        Flags = TcpFlags.Ack,
        HasTimestamps = syn.HasTimestamps,
        TsEcr = syn.HasTimestamps ? tsVal : 0,
    };

    [Theory]
    [InlineData(0, 536)]
    [InlineData(1, 48)]
    [InlineData(48, 48)]
    [InlineData(215, 48)]
    [InlineData(216, 216)]
    [InlineData(536, 536)]
    [InlineData(1219, 536)]
    [InlineData(1440, 1440)]
    [InlineData(1459, 1440)]
    [InlineData(1460, 1460)]
    [InlineData(9000, 1460)]
    public void TryCheck_OwnCookie_GivesTheNextLowerMss(ushort offered, ushort kept)
    {
        Packet syn = s_syn with { Mss = offered };
        SeqNumber cookie = s_cookies.Make(syn, s_now, 777, out uint tsVal);
        Assert.True(s_cookies.TryCheck(AckFor(syn, cookie, tsVal), s_now, out SynCookieOptions options));
        Assert.Equal(kept, options.Mss);
        Assert.False(options.HasTimestamps);
        Assert.False(options.HasWindowScale);
        Assert.False(options.SackPermitted);
    }

    [Fact]
    public void TryCheck_IPv6WithoutMss_GivesItsDefault()
    {
        Packet syn = s_syn with { Flow = SegmentBuilder.FlowV6, Mss = 0 };
        SeqNumber cookie = s_cookies.Make(syn, s_now, 0, out uint tsVal);
        Assert.True(s_cookies.TryCheck(AckFor(syn, cookie, tsVal), s_now, out SynCookieOptions options));
        Assert.Equal(1220, options.Mss);
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(5u)]
    [InlineData(64u)]
    [InlineData(0x80000000u)]
    [InlineData(0xffffffffu)]
    public void TryCheck_WithTimestamps_GivesEveryOptionBack(uint timestamp)
    {
        for (int scale = -1; scale <= 14; scale++)
        {
            for (int bits = 0; bits < 4; bits++)
            {
                Packet syn = s_syn with
                {
                    HasTimestamps = true,
                    HasWindowScale = scale >= 0,
                    WindowScale = (byte)Math.Max(scale, 0),
                    SackPermitted = (bits & 1) != 0,
                    Flags = (bits & 2) != 0 ? TcpFlags.Syn | TcpFlags.Ece | TcpFlags.Cwr : TcpFlags.Syn | TcpFlags.Ece,
                };
                SeqNumber cookie = s_cookies.Make(syn, s_now, timestamp, out uint tsVal);
                Assert.InRange(unchecked((int)(timestamp - tsVal)), 0, 64);
                Packet ack = AckFor(syn, cookie, tsVal);
                Assert.True(s_cookies.TryCheck(ack, s_now, out SynCookieOptions options));
                if (tsVal == 0)
                    continue;
                Assert.True(options.HasTimestamps);
                Assert.Equal(syn.HasWindowScale, options.HasWindowScale);
                Assert.Equal(syn.WindowScale, options.WindowScale);
                Assert.Equal(syn.SackPermitted, options.SackPermitted);
                Assert.Equal((bits & 2) != 0, options.Ecn);
            }
        }
    }

    [Fact]
    public void TryCheck_FinalAckWithoutTimestamps_FallsBackToNoOptions()
    {
        Packet syn = s_syn with { HasTimestamps = true, SackPermitted = true, HasWindowScale = true, WindowScale = 7 };
        SeqNumber cookie = s_cookies.Make(syn, s_now, 100_000, out _);
        Assert.True(
            s_cookies.TryCheck(
                AckFor(syn, cookie, 0) with { HasTimestamps = false }, s_now, out SynCookieOptions options));
        Assert.False(options.HasWindowScale);
        Assert.False(options.SackPermitted);
    }

    [Fact]
    public void TryCheck_AnythingChanged_IsRefused()
    {
        SeqNumber cookie = s_cookies.Make(s_syn, s_now, 0, out uint tsVal);
        Packet ack = AckFor(s_syn, cookie, tsVal);
        Assert.True(s_cookies.TryCheck(ack, s_now, out _));
        Assert.False(s_cookies.TryCheck(ack with { Ack = ack.Ack + 8 }, s_now, out _));
        Assert.False(s_cookies.TryCheck(ack with { Seq = ack.Seq + 8 }, s_now, out _));
        Assert.False(s_cookies.TryCheck(ack with { Flow = ack.Flow with { RemotePort = 40001 } }, s_now, out _));
        Assert.False(s_cookies.TryCheck(ack with { Flow = ack.Flow with { LocalPort = 8081 } }, s_now, out _));
        Assert.False(new SynCookies(new byte[32]).TryCheck(ack, s_now, out _));
    }

    [Fact]
    public void TryCheck_Late_IsRefused()
    {
        Instant made = new(TimeSpan.FromSeconds(64 * 1000).Ticks);
        SeqNumber cookie = s_cookies.Make(s_syn, made, 0, out uint tsVal);
        Packet ack = AckFor(s_syn, cookie, tsVal);
        Assert.True(s_cookies.TryCheck(ack, made + TimeSpan.FromSeconds(127), out _));
        Assert.False(s_cookies.TryCheck(ack, made + TimeSpan.FromSeconds(128), out _));
        Assert.False(s_cookies.TryCheck(ack, made + TimeSpan.FromSeconds(64 * 200), out _));
        Assert.False(s_cookies.TryCheck(ack, made - TimeSpan.FromSeconds(1), out _));
    }

    [Fact]
    public void TryCheck_Guesses_AlmostNeverHit()
    {
        var random = new Random(5);
        int hits = 0;
        for (int i = 0; i < 200_000; i++)
        {
            var ack = new Packet
            {
                Flow = SegmentBuilder.FlowV4,
                Seq = new SeqNumber((uint)random.NextInt64(1L << 32)),
                Ack = new SeqNumber((uint)random.NextInt64(1L << 32)),
                Flags = TcpFlags.Ack,
            };
            hits += s_cookies.TryCheck(ack, s_now, out _) ? 1 : 0;
        }
        Assert.Equal(0, hits); // 16 in 2^32 by design
    }
}
