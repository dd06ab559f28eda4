using System.Globalization;
using System.Text.RegularExpressions;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>What wrk writes at its end.</summary>
internal static partial class WrkReport
{
    /// <summary>No socket had an error, and every answer was a good one. Returns how many there were.</summary>
    internal static int AssertNoErrors(string report)
    {
        Assert.DoesNotContain("Socket errors", report, StringComparison.Ordinal);
        Assert.DoesNotContain("Non-2xx", report, StringComparison.Ordinal);
        return int.Parse(Requests().Match(report).Groups[1].Value, CultureInfo.InvariantCulture);
    }

    [GeneratedRegex("([0-9]+) requests in ")]
    private static partial Regex Requests();
}
