using Xdp.Sockets.Bpf;
using Xdp.Sockets.Tests.Net;

namespace Xdp.Sockets.Tests.Bpf;

public class BpfMapTests
{
    /// <summary>Its number may be another object's by then.</summary>
    [SkippableFact]
    public async Task Close_BesideACall_TheCallIsDoneOrSaysThatTheMapIsClosed()
    {
        TestNetwork.Require();
        var definition = new BpfMapDefinition("beside", BpfMapType.PerCpuArray, 4, 8, 1, 0);
        for (int round = 0; round < 1000; round++)
        {
            BpfMap map = BpfMap.Create(definition);
            using var reads = new ManualResetEventSlim();
            Task<Exception> reader = Task.Run(() =>
            {
                while (true)
                {
                    try
                    {
                        _ = map.SumPerCpu(0u);
                        reads.Set();
                    }
                    catch (Exception e)
                    {
                        return e;
                    }
                }
            });
            reads.Wait();
            map.Dispose();
            Assert.IsType<ObjectDisposedException>(await reader);
        }
    }
}
