using System.CommandLine;

namespace TcpTrials.Flood;

internal static class PacedClient
{
    public static Command Create() => new("pacedclient");
}
