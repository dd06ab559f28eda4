using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace Xdp.TcpLite.Tests.Conformance;

/// <summary>
/// A segment in a script's notation: <c>FLAGS seq:end(length) ack N win N &lt;options&gt;</c>. Numbers count from the
/// sender's ISN, which is 0, the window is the header's field, and the options stand in their order on the wire.
/// </summary>
internal sealed partial record ScriptSegment
{
    private const string FlagLetters = "FSRP.UEW";

    public TcpFlags Flags { get; init; }
    public long Seq { get; init; }
    public int Length { get; init; }
    public long? Ack { get; init; }

    /// <summary>Null in an expected segment is any, in one to be sent 65535.</summary>
    public int? Window { get; init; }

    /// <summary>The two ECN bits of the IP header; null in an expected segment is any.</summary>
    public byte? Ecn { get; init; }

    /// <summary>Each option as a script has it, padding included.</summary>
    public IReadOnlyList<string> Options { get; init; } = [];

    /// <summary>The expected segment may carry any options: <c>&lt;...&gt;</c>.</summary>
    public bool AnyOptions { get; init; }

    [GeneratedRegex(
        @"^(?:\[(?<ecn>\w+)\]\s*)?(?<flags>[FSRP.UEW]+|-)\s+(?<seq>-?\d+):(?<end>-?\d+)\((?<len>\d+)\)"
        + @"(?:\s+ack\s+(?<ack>-?\d+))?(?:\s+win\s+(?<win>\d+))?(?:\s+<(?<opts>[^>]*)>)?$")]
    private static partial Regex Syntax { get; }

    [GeneratedRegex(@"\s+")]
    private static partial Regex Spaces { get; }

    public static ScriptSegment Parse(string text)
    {
        Match match = Syntax.Match(text);
        if (!match.Success)
            throw new FormatException($"not a segment: '{text}'");
        TcpFlags flags = TcpFlags.None;
        foreach (char letter in match.Groups["flags"].Value.Replace("-", "", StringComparison.Ordinal))
            flags |= (TcpFlags)(1 << FlagLetters.IndexOf(letter, StringComparison.Ordinal));
        long seq = Number(match, "seq")!.Value;
        long length = Number(match, "len")!.Value;
        if (Number(match, "end") != seq + length)
            throw new FormatException($"end is not start + length: '{text}'");
        if (match.Groups["ack"].Success != ((flags & TcpFlags.Ack) != 0))
            throw new FormatException($"an ACK number goes with the flag '.': '{text}'");
        string options = match.Groups["opts"].Value.Trim();
        return new ScriptSegment
        {
            Flags = flags,
            Seq = seq,
            Length = (int)length,
            Ack = Number(match, "ack"),
            Window = (int?)Number(match, "win"),
            Ecn = match.Groups["ecn"].Value switch
            {
                "" => null,
                "noecn" => 0,
                "ect1" => 1,
                "ect0" => 2,
                "ce" => 3,
                var other => throw new FormatException($"no ECN codepoint: '{other}'"),
            },
            AnyOptions = options == "...",
            Options = options is "" or "..."
                ? []
                : [.. options.Split(',').Select(option => Spaces.Replace(option.Trim(), " "))],
        };
    }

    private static long? Number(Match match, string group) =>
        match.Groups[group] is { Success: true } found
            ? long.Parse(found.ValueSpan, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture)
            : null;

    /// <summary>Is <paramref name="actual"/> what this one asks for?</summary>
    public bool Matches(ScriptSegment actual) =>
        Flags == actual.Flags && Seq == actual.Seq && Length == actual.Length && Ack == actual.Ack
        && (Window is null || Window == actual.Window) && (Ecn is null || Ecn == actual.Ecn)
        && (AnyOptions
            || (Options.Count == actual.Options.Count
                && Options.Zip(actual.Options).All(pair => OptionMatches(pair.First, pair.Second))));

    /// <summary>Word by word; <c>*</c> stands for any word.</summary>
    private static bool OptionMatches(string expected, string actual)
    {
        string[] left = expected.Split(' '), right = actual.Split(' ');
        return left.Length == right.Length
            && left.Zip(right).All(pair => pair.First == "*" || pair.First == pair.Second);
    }

    public override string ToString()
    {
        var text = new StringBuilder();
        if (Ecn is > 0)
            text.Append(CultureInfo.InvariantCulture, $"[{Ecn switch { 1 => "ect1", 2 => "ect0", _ => "ce" }}] ");
        if (Flags == TcpFlags.None)
            text.Append('-');
        foreach (char letter in "SFRPEWU.")
        {
            if (((int)Flags >> FlagLetters.IndexOf(letter, StringComparison.Ordinal) & 1) != 0)
                text.Append(letter);
        }
        text.Append(CultureInfo.InvariantCulture, $" {Seq}:{Seq + Length}({Length})");
        if (Ack is { } ack)
            text.Append(CultureInfo.InvariantCulture, $" ack {ack}");
        if (Window is { } window)
            text.Append(CultureInfo.InvariantCulture, $" win {window}");
        if (AnyOptions)
            text.Append(" <...>");
        else if (Options.Count > 0)
            text.Append(CultureInfo.InvariantCulture, $" <{string.Join(',', Options)}>");
        return text.ToString();
    }
}
