using System.CommandLine;

namespace TcpTrials.Idle;

internal static class IdleServer
{
    public static Command Create() => new("idleserver");
}
