using System.Globalization;
using System.Text.RegularExpressions;

namespace TransportComparison.Generators;

/// <summary>Reading what tools print for people.</summary>
internal static class Text
{
    public static Match Find(Regex regex, string report)
    {
        var match = regex.Match(report);
        return match.Success ? match : throw new FormatException($"no match for {regex} in\n{report}");
    }

    public static double Number(string text) => double.Parse(text, CultureInfo.InvariantCulture);

    public static long Count(string text) => long.Parse(text, CultureInfo.InvariantCulture);

    /// <summary>A time with its unit, such as <c>1.25ms</c>.</summary>
    public static double Microseconds(string text)
    {
        string unit = text.TrimStart("0123456789.".ToCharArray());
        double scale = unit switch
        {
            "us" => 1,
            "ms" => 1e3,
            "s" => 1e6,
            "m" => 60e6,
            _ => throw new FormatException($"unknown unit in '{text}'"),
        };
        return scale * Number(text[..^unit.Length]);
    }
}
