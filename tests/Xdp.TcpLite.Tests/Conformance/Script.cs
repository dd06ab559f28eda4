using System.Globalization;
using System.Reflection;
using System.Text.RegularExpressions;

namespace Xdp.TcpLite.Tests.Conformance;

/// <summary>One line of a script that does something or expects something.</summary>
/// <param name="Line">Its number, from 1.</param>
/// <param name="At">Since the step before when <paramref name="IsRelative"/>, else since the script's start.</param>
/// <param name="IsRelative">See <paramref name="At"/>.</param>
/// <param name="SameTurn">Belongs to the turn of the step before: nothing is emitted in between.</param>
/// <param name="Flow">Which of the script's 4-tuples it is about.</param>
/// <param name="Verb"><c>&lt;</c> from the peer, <c>&gt;</c> to it, <c>=</c> an assertion, or a call's name.</param>
/// <param name="Text">The rest of the line.</param>
internal sealed record ScriptStep(
    int Line, TimeSpan At, bool IsRelative, bool SameTurn, int Flow, string Verb, string Text)
{
    /// <summary>The segment of a <c>&lt;</c> or <c>&gt;</c> line.</summary>
    public ScriptSegment? Segment { get; init; }
}

/// <summary>
/// A packet script. Its notation is packetdrill's where the two overlap; <c>Conformance/README.md</c> has all of it.
/// </summary>
internal sealed partial class Script
{
    [GeneratedRegex(
        @"^(?:(?<same>&)|(?<rel>\+)?(?<at>\d*\.?\d+))?\s*(?:#(?<flow>\d+)\s+)?(?<verb>[<>=]|[a-z_]+)\s*(?<text>.*)$")]
    private static partial Regex Syntax { get; }

    private Script(string name, string[] lines)
    {
        Name = name;
        Lines = lines;
        var steps = new List<ScriptStep>();
        for (int i = 0; i < lines.Length; i++)
        {
            string line = lines[i].Split("//")[0].Trim();
            if (line.Length == 0)
                continue;
            try
            {
                if (line.StartsWith("option ", StringComparison.Ordinal))
                    ParseOption(line["option ".Length..].Trim());
                else
                    steps.Add(ParseStep(line, i + 1));
            }
            catch (FormatException e)
            {
                throw new FormatException($"{name}, line {i + 1}: {e.Message}", e);
            }
        }
        Steps = steps;
    }

    /// <summary>Mechanism and file, as in <c>handshake/passive.tcp</c>.</summary>
    public string Name { get; }
    public IReadOnlyList<string> Lines { get; }
    public IReadOnlyList<ScriptStep> Steps { get; }

    /// <summary>Without pacing unless the script asks for it: most tell what is sent, and not how fast.</summary>
    public TcpStackOptions StackOptions { get; } = new() { Pacing = false };

    /// <summary>4 or 6 when the script holds for one of them only.</summary>
    public int? IpVersion { get; private set; }

    /// <summary>The peer's ISN.</summary>
    public uint PeerIsn { get; private set; } = 1_000_000;

    /// <summary>The ISN that the stack will choose for flow 1 at the script's start; null is what comes.</summary>
    public uint? Iss { get; private set; }

    /// <summary>
    /// How much earlier or later than the script says a segment may come. Timers have a grain of 1 ms.
    /// </summary>
    public TimeSpan Tolerance { get; private set; } = TimeSpan.FromMilliseconds(1);

    /// <summary>
    /// The directory to read scripts from, so that one can be written without a build: <c>CONFORMANCE_SCRIPTS=DIRECTORY
    /// dotnet test --no-build …</c> Otherwise they are read from the assembly.
    /// </summary>
    private static readonly string? s_directory = Environment.GetEnvironmentVariable("CONFORMANCE_SCRIPTS");

    public static IEnumerable<string> Names() => s_directory is not null
        ? Directory.GetFiles(s_directory, "*.tcp", SearchOption.AllDirectories)
            .Select(path => Path.GetRelativePath(s_directory, path)).Order(StringComparer.Ordinal)
        : typeof(Script).Assembly.GetManifestResourceNames()
            .Where(name => name.StartsWith("scripts/", StringComparison.Ordinal))
            .Select(name => name["scripts/".Length..])
            .Order(StringComparer.Ordinal);

    public static Script Load(string name)
    {
        if (s_directory is not null)
            return Parse(name, File.ReadAllText(Path.Combine(s_directory, name)));
        using Stream stream = typeof(Script).Assembly.GetManifestResourceStream($"scripts/{name}")
            ?? throw new ArgumentException($"no script {name}", nameof(name));
        using var reader = new StreamReader(stream);
        return Parse(name, reader.ReadToEnd());
    }

    public static Script Parse(string name, string text) => new(name, text.Split('\n'));

    private static ScriptStep ParseStep(string line, int number)
    {
        Match match = Syntax.Match(line);
        if (!match.Success)
            throw new FormatException($"not a step: '{line}'");
        string verb = match.Groups["verb"].Value;
        string text = match.Groups["text"].Value.Trim();
        bool timed = match.Groups["at"].Success;
        if (!timed && !match.Groups["same"].Success && verb != "=")
            throw new FormatException($"a time is missing: '{line}'");
        double seconds = timed ? double.Parse(match.Groups["at"].ValueSpan, CultureInfo.InvariantCulture) : 0;
        Group flow = match.Groups["flow"];
        return new ScriptStep(
            number,
            At: TimeSpan.FromMicroseconds(Math.Round(seconds * 1e6)),
            IsRelative: match.Groups["rel"].Success || !timed,
            SameTurn: match.Groups["same"].Success,
            Flow: flow.Success ? int.Parse(flow.ValueSpan, CultureInfo.InvariantCulture) : 1,
            verb,
            text)
        {
            Segment = verb is "<" or ">" ? ScriptSegment.Parse(text) : null,
        };
    }

    private void ParseOption(string text)
    {
        string[] parts = text.Split('=', 2, StringSplitOptions.TrimEntries);
        if (parts.Length != 2)
            throw new FormatException($"an option is name = value: '{text}'");
        switch (parts[0])
        {
            case "ip":
                IpVersion = int.Parse(parts[1], CultureInfo.InvariantCulture);
                break;
            case "peer_isn":
                PeerIsn = uint.Parse(parts[1], CultureInfo.InvariantCulture);
                break;
            case "iss":
                Iss = uint.Parse(parts[1], CultureInfo.InvariantCulture);
                break;
            case "tolerance":
                Tolerance = Seconds(parts[1]);
                break;
            default:
                PropertyInfo property = typeof(TcpStackOptions).GetProperty(parts[0])
                    ?? throw new FormatException($"no option '{parts[0]}'");
                Type type = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
                property.SetValue(StackOptions, type == typeof(TimeSpan) ? Seconds(parts[1])
                    : type.IsEnum ? Enum.Parse(type, parts[1], ignoreCase: true)
                    : Convert.ChangeType(parts[1], type, CultureInfo.InvariantCulture));
                break;
        }
    }

    private static TimeSpan Seconds(string text) =>
        TimeSpan.FromMicroseconds(Math.Round(double.Parse(text, CultureInfo.InvariantCulture) * 1e6));
}
