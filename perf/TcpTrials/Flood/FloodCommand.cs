using System.CommandLine;

namespace TcpTrials.Flood;

internal static class FloodCommand
{
    public static Command Create() => new("floodcommand");
}
