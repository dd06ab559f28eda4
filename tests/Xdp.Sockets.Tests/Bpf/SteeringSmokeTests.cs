using Kestrel.Transport.Xdp.Internal.Steering;

namespace Xdp.Sockets.Tests.Bpf;

public class SmokeTests
{
    [Fact]
    public void Loads()
    {
        using var p = SteeringProgram.Load();
        Assert.Equal(2u, p.Program.TestRun(new byte[60]).ReturnValue);
        Assert.Equal(1ul, p.ReadCounters().PassNotOurMac);
    }
}
