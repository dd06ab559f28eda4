using Shared;
using Xdp.TcpLite.Tests.Conformance;

namespace Xdp.TcpLite.LinuxTests;

/// <summary>What the documents say of Linux is what is played.</summary>
public class LinuxDocumentTests
{
    private static readonly string s_map = Path.Combine(Repository.Root, "docs/tcp-rfc-map.md");
    private static readonly string s_list =
        Path.Combine(Repository.Root, "tests/Xdp.TcpLite.Tests/Conformance/Linux.md");

    private static readonly string[] s_names = [.. Script.Names().Select(name => name[..^".tcp".Length])];

    public static TheoryData<string> RowsThatMentionLinux() =>
        [.. File.ReadLines(s_map).Where(line => line.StartsWith('|')
            && line.Contains("Linux", StringComparison.Ordinal))];

    [Fact]
    public void Rows_ThatMentionLinux_AreThere() => Assert.True(RowsThatMentionLinux().Count > 20);

    /// <summary>A row that speaks of Linux names a script that is played to it, or a value that is compared.</summary>
    [Theory]
    [MemberData(nameof(RowsThatMentionLinux))]
    public void Row_ThatMentionsLinux_NamesWhatIsPlayed(string row) =>
        Assert.True(
            row.Contains(nameof(LinuxValueTests), StringComparison.Ordinal) || ScriptsIn(row).Any(IsPlayed),
            $"No script of this row says 'linux same' or 'linux differs: …':\n{row}");

    [Fact]
    public void Row_WithoutSuchScripts_IsFound() =>
        Assert.DoesNotContain(ScriptsIn("| — | as Linux | `X` | nagle/no-such-script, `ScriptTests` | |"), IsPlayed);

    [Fact]
    public void ScriptsIn_RowWithLists_FindsAll() => Assert.Equal(
        ["blind/syn", "blind/rst-exact", "close/abort", "nagle/cork", "nagle/fin", "nagle/off", "nagle/on",
            "nagle/turned-off"],
        ScriptsIn("| 1 | rule | `X` | blind/syn, rst-exact; close/abort, nagle/*, *matrix*, `Tests` | |"));

    /// <summary>A script says for itself what Linux does otherwise; the list has it for the reader.</summary>
    [Fact]
    public void List_OfDifferences_IsThatOfTheScripts()
    {
        string[] expected = [.. s_names.Select(name => (name, Script.Load(name + ".tcp").LinuxDiffers))
            .Where(script => script.LinuxDiffers is not null)
            .Select(script => $"| {script.name} | {script.LinuxDiffers} |")];
        string[] actual = [.. File.ReadLines(s_list).Where(line => line.StartsWith("| ", StringComparison.Ordinal)
            && line.Contains('/', StringComparison.Ordinal))];
        Assert.Equal(expected, actual);
    }

    private static bool IsPlayed(string name)
    {
        Script script = Script.Load(name + ".tcp");
        return script.LinuxDoesTheSame || script.LinuxDiffers is not null;
    }

    /// <summary>Of the fourth column. A folder holds for the names after it, too.</summary>
    private static IEnumerable<string> ScriptsIn(string row)
    {
        string folder = "";
        foreach (string word in row.Split('|')[4].Split([',', ';'], StringSplitOptions.TrimEntries))
        {
            string[] parts = word.Split('/');
            if (parts.Length == 2)
                folder = parts[0];
            foreach (string name in s_names)
            {
                if (name == $"{folder}/{parts[^1]}" || (parts[^1] == "*" && Path.GetDirectoryName(name) == folder))
                    yield return name;
            }
        }
    }
}
