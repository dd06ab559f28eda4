using System.Reflection;
using System.Text.RegularExpressions;
using Kestrel.Transport.Xdp.Internal.Options;
using Shared;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Options;

/// <summary>Holds docs/options.md against the code. The rows of its tables begin with the name of an option.</summary>
public partial class OptionsPageTests
{
    private static readonly string[] s_lines = File.ReadAllLines(Path.Combine(Repository.Root, "docs", "options.md"));

    private static readonly string[] s_rows =
    [
        .. s_lines.Select(line => RowOfName().Match(line))
            .Where(match => match.Success)
            .Select(match => match.Groups["name"].Value),
    ];

    [Fact]
    public void Page_HasARowForEachOptionAndSwitch_AndNoOther()
    {
        string[] options = [.. typeof(XdpTransportOptions).GetProperties().Select(option => option.Name)];
        string[] switches =
        [
            .. typeof(EnvironmentSwitches).GetFields(BindingFlags.Static | BindingFlags.NonPublic)
                .Where(field => field.IsLiteral)
                .Select(field => (string)field.GetRawConstantValue()!),
        ];
        Assert.NotEmpty(options);
        Assert.NotEmpty(switches);
        Assert.Equal(options.Concat(switches).Order(), s_rows.Order());
    }

    /// <summary>Numbers and durations that the page gives as defaults are those of a new object.</summary>
    [Theory]
    [InlineData(nameof(XdpTransportOptions.MemoryBudget), "512 MiB")]
    [InlineData(nameof(XdpTransportOptions.ReceiveRingSize), "8192")]
    [InlineData(nameof(XdpTransportOptions.TransmitRingSize), "2048")]
    [InlineData(nameof(XdpTransportOptions.BusySpin), "0")]
    [InlineData(nameof(XdpTransportOptions.ShutdownLinger), "5 s")]
    public void Default_IsWhatThePageSays(string option, string text)
    {
        Assert.EndsWith($", {text}", DefaultOf(option), StringComparison.Ordinal);
        AssertIs(text, typeof(XdpTransportOptions).GetProperty(option)!.GetValue(new XdpTransportOptions())!);
    }

    /// <summary>
    /// What the page gives as the kernel's usual values is what the stack has where the kernel does not tell.
    /// </summary>
    [Theory]
    [InlineData(nameof(XdpTransportOptions.ReceiveBufferMax), "6 MiB")]
    [InlineData(nameof(XdpTransportOptions.SendBufferMax), "4 MiB")]
    [InlineData(nameof(XdpTransportOptions.KeepAliveInterval), "75 s")]
    [InlineData(nameof(XdpTransportOptions.KeepAliveCount), "9")]
    public void KernelsDefault_IsWhatThePageSays(string option, string text)
    {
        Assert.EndsWith($": {text}", DefaultOf(option), StringComparison.Ordinal);
        Assert.Null(typeof(XdpTransportOptions).GetProperty(option)!.GetValue(new XdpTransportOptions()));
        AssertIs(text, typeof(TcpStackOptions).GetProperty(option)!.GetValue(TcpSysctls.None.Stack)!);
    }

    private static string DefaultOf(string option) =>
        Assert.Single(s_lines, line => line.StartsWith($"| `{option}` |", StringComparison.Ordinal))
            .Split('|')[2].TrimEnd();

    private static void AssertIs(string text, object value)
    {
        string[] words = text.Split(' ');
        long number = long.Parse(words[0]) * (words.ElementAtOrDefault(1) == "MiB" ? 1 << 20 : 1);
        if (value is TimeSpan duration)
            Assert.Equal(TimeSpan.FromSeconds(number), duration);
        else
            Assert.Equal(number, Convert.ToInt64(value));
    }

    [GeneratedRegex("^[|] `(?<name>[A-Za-z_]+)` [|]")]
    private static partial Regex RowOfName();
}
