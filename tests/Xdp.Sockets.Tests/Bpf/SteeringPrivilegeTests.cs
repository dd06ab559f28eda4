using Kestrel.Transport.Xdp.Internal.Steering;
using Shared;
using Xdp.Sockets.Tests.Net;
using Xdp.Sockets.Tests.Support;

namespace Xdp.Sockets.Tests.Bpf;

/// <summary>The verifier forbids more where CAP_PERFMON is missing.</summary>
public class SteeringPrivilegeTests
{
    [SkippableFact]
    public void Load_WithBpfAndNetAdminAlone_IsTaken()
    {
        TestNetwork.Require();
        OwnThread.Run(() =>
        {
            TestNative.KeepCapabilities(TestNative.CAP_BPF, TestNative.CAP_NET_ADMIN);
            using SteeringProgram program = SteeringProgram.Load();
            Assert.NotEqual(0u, program.Program.Id);
        });
    }
}
