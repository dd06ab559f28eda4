using System.CommandLine;

namespace TcpTrials.Idle;

internal static class IdleCommand
{
    public static Command Create() => new("idlecommand");
}
