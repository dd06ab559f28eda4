using System.Text.RegularExpressions;
using Kestrel.Transport.Xdp.Internal.Steering;

namespace Xdp.Sockets.Tests.Bpf;

/// <summary>bpf/xdp_steer.h and its mirror in C#.</summary>
public class SteeringHeaderTests
{
    [Fact]
    public void Enums_AreThoseOfTheHeader()
    {
        using var reader =
            new StreamReader(typeof(SteeringHeaderTests).Assembly.GetManifestResourceStream("xdp_steer.h")!);
        string header = reader.ReadToEnd();

        string[] counters = [.. Names(header, "steer_counter")[..^1].Select(Pascal)];
        Assert.Equal(Enum.GetNames<SteeringCounter>()[..^1], counters);
        string[] modes = [.. Names(header, "steer_mode").Select(n => Pascal(n["STEER_".Length..]))];
        Assert.Equal(Enum.GetNames<SteeringMode>(), modes);
        Assert.Contains($"#define STEER_MAX_QUEUES {SteeringProgram.MaxQueues}\n", header, StringComparison.Ordinal);
    }

    private static string[] Names(string header, string name)
    {
        string body = Regex.Match(header, $@"enum {name} \{{(.*?)\}};", RegexOptions.Singleline).Groups[1].Value;
        return [.. Regex.Matches(body, @"^\t([A-Z0-9_]+)\b", RegexOptions.Multiline).Select(m => m.Groups[1].Value)];
    }

    private static string Pascal(string name)
        => string.Concat(name.Split('_').Select(word => word[0] + word[1..].ToLowerInvariant()));
}
