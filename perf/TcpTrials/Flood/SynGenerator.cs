using System.CommandLine;

namespace TcpTrials.Flood;

internal static class SynGenerator
{
    public static Command Create() => new("syngenerator");
}
