using System.CommandLine;

namespace TcpTrials.Idle;

internal static class IdleClient
{
    public static Command Create() => new("idleclient");
}
