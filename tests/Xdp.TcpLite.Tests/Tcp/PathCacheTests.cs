namespace Xdp.TcpLite.Tests;

public class PathCacheTests
{
    [Fact]
    public void Share_SamePath_IsOneObject()
    {
        var paths = new PathCache();
        Route first = paths.Share(SegmentBuilder.Path);
        Assert.Equal(SegmentBuilder.Path, first.Value);
        Assert.Same(first, paths.Share(SegmentBuilder.Path));
    }

    [Fact]
    public void Share_MorePathsThanItRemembers_GivesEachItsOwn()
    {
        var paths = new PathCache();
        for (uint i = 0; i < 5_000; i++)
        {
            LinkPath path = SegmentBuilder.Path with
            {
                RemoteMac = i / 3,
                TagCount = 1,
                OuterTag = LinkPath.Tag(0x8100, (ushort)(i % 3)),
            };
            Assert.Equal(path, paths.Share(path).Value);
        }
    }
}
