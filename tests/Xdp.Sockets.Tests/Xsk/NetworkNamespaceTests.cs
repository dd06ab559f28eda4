using Shared;
using Xdp.Sockets.Interop;
using Xdp.Sockets.Tests.Support;

namespace Xdp.Sockets.Tests;

[Collection(NetworkCollection.Name)]
public class NetworkNamespaceTests
{
    [SkippableFact]
    public void Enter_AndDispose_MovesThisThreadAlone()
    {
        using VethPair pair = VethPair.Create();
        OwnThread.Run(() =>
        {
            ulong home = NetworkNamespace.CurrentId;
            Assert.Equal(NetworkNamespace.ProcessId, home);
            using (NetworkNamespace.Enter(pair.Path))
            {
                Assert.NotEqual(home, NetworkNamespace.CurrentId);
                Assert.Equal(home, NetworkNamespace.ProcessId);
                Assert.Equal(home, OwnThread.Run(() =>
                {
                    using (NetworkNamespace.Enter($"/proc/{Environment.ProcessId}/ns/net"))
                        return NetworkNamespace.CurrentId;
                }));
            }
            Assert.Equal(home, NetworkNamespace.CurrentId);
        });
    }

    [SkippableFact]
    public void Enter_NoSuchFile_Throws()
    {
        Require.Root();
        XdpException e = Assert.Throws<XdpException>(() => NetworkNamespace.Enter("/run/netns/no-such-namespace"));
        Assert.Equal(ErrnoNames.ENOENT, e.Errno);
    }

    [SkippableFact]
    public void Enter_NotANamespace_SaysSo()
    {
        Require.Root();
        XdpException e = OwnThread.Run(() => Assert.Throws<XdpException>(() => NetworkNamespace.Enter("/dev/null")));
        Assert.Equal(ErrnoNames.EINVAL, e.Errno);
        Assert.Contains("not a network namespace", e.Hint);
    }

    [SkippableFact]
    public void CurrentThread_AffinityAndSlack_AreTaken()
    {
        Require.Linux();
        OwnThread.Run(() =>
        {
            int cpu = Thread.GetCurrentProcessorId();
            Assert.True(CurrentThread.TrySetAffinity(cpu));
            Assert.Equal(cpu, Thread.GetCurrentProcessorId());
            Assert.False(CurrentThread.TrySetAffinity(-1));
            Assert.False(CurrentThread.TrySetAffinity(1023));
            Assert.True(CurrentThread.TrySetTimerSlack(TimeSpan.FromMicroseconds(1)));
        });
    }
}
