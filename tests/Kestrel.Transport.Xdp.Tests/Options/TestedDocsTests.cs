using System.Text.RegularExpressions;
using Kestrel.Transport.Xdp.Internal.Options;
using Shared;

namespace Kestrel.Transport.Xdp.Tests.Options;

/// <summary>Pages whose tables name the tests that show their rows: there are such tests.</summary>
public partial class TestedDocsTests
{
    private const string None = "—";

    private static readonly Lazy<HashSet<string>> s_tests = new(FindTests);

    private static readonly string[] s_differences = ReadPage("differences.md");

    [Fact]
    public void Host_EachRowNamesTestsThatExist() => AssertRows(ReadPage("host.md"), mayLackTests: false);

    [Fact]
    public void Differences_EachRowNamesTestsThatExist() => AssertRows(s_differences, mayLackTests: true);

    /// <summary>Outside of the last columns too.</summary>
    [Fact]
    public void Differences_TextNamesTestsThatExist() => Assert.All(
        s_differences.SelectMany(TestsIn), test => Assert.Contains(test, s_tests.Value));

    [Fact]
    public void Differences_ListWhatIsNamedAtStart()
    {
        string[] listed =
        [
            .. Section("### Not obeyed, and named").SelectMany(line => NameOf().Matches(line.Split('|')[1]))
                .Select(match => match.Groups["name"].Value),
        ];
        string[] named = [.. TcpSysctls.NamesThatMayBeNotObeyed.Select(name => name["ipv4.".Length..])];
        Assert.NotEmpty(named);
        Assert.Equal(named.Order(StringComparer.Ordinal), listed.Order(StringComparer.Ordinal));
    }

    private static string[] ReadPage(string name) =>
        File.ReadAllLines(Path.Combine(Repository.Root, "docs", name));

    // Rows of a table whose last column is called "test", without the two at its head.
    private static void AssertRows(string[] lines, bool mayLackTests)
    {
        int rows = 0;
        for (int i = 0; i < lines.Length; i++)
        {
            if (!lines[i].EndsWith("| test |", StringComparison.Ordinal))
                continue;
            for (i += 2; i < lines.Length && lines[i].StartsWith('|'); i++, rows++)
            {
                string last = lines[i].Split('|')[^2].Trim();
                if (mayLackTests && last == None)
                    continue;
                string[] tests = [.. TestsIn(last)];
                Assert.True(tests.Length > 0, $"No test is named: {lines[i]}");
                Assert.All(tests, test => Assert.Contains(test, s_tests.Value));
            }
        }
        Assert.True(rows > 10, $"There are {rows} rows.");
    }

    private static IEnumerable<string> Section(string heading) => s_differences
        .SkipWhile(line => line != heading).Skip(1).TakeWhile(line => !line.StartsWith('#'))
        .Where(line => line.StartsWith("| `", StringComparison.Ordinal));

    private static IEnumerable<string> TestsIn(string text) =>
        NameOfTest().Matches(text).Select(match => match.Groups["name"].Value);

    // "Class.Method" of each test. A class may lie in several files, and a file may have several classes.
    private static HashSet<string> FindTests()
    {
        var tests = new HashSet<string>(StringComparer.Ordinal);
        foreach (string file in Directory.EnumerateFiles(
            Path.Combine(Repository.Root, "tests"), "*.cs", SearchOption.AllDirectories))
        {
            string type = "";
            bool isTest = false;
            foreach (string line in File.ReadLines(file))
            {
                if (NameOfType().Match(line) is { Success: true } declaration)
                    type = declaration.Groups["name"].Value;
                isTest |= Attribute().IsMatch(line);
                if (isTest && Method().Match(line) is { Success: true } method)
                {
                    tests.Add($"{type}.{method.Groups["name"].Value}");
                    isTest = false;
                }
            }
        }
        return tests;
    }

    [GeneratedRegex("`(?<name>[A-Z][A-Za-z0-9]*(Tests|Contract)[.][A-Za-z0-9_]+)`")]
    private static partial Regex NameOfTest();

    [GeneratedRegex("`(?<name>[a-z0-9_.]+)`")]
    private static partial Regex NameOf();

    [GeneratedRegex("^(public|internal) (abstract |sealed |static |partial )*class (?<name>[A-Za-z0-9]+)")]
    private static partial Regex NameOfType();

    [GeneratedRegex(@"^\s*\[(Skippable)?(Fact|Theory)")]
    private static partial Regex Attribute();

    [GeneratedRegex(@"^\s*public (async )?(Task|void) (?<name>[A-Za-z0-9_]+)\(")]
    private static partial Regex Method();
}
