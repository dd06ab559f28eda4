using System.CommandLine;
using Spectre.Console;
using TransportComparison;

namespace TcpTrials;

/// <summary>What the trials share: options, and how one ends.</summary>
internal static class Trial
{
    // Columns the tables need where the output is not a terminal.
    private const int TableWidth = 140;

    public static Option<string> Root() =>
        new("--root") { Hidden = true, DefaultValueFactory = _ => Environment.CurrentDirectory };

    public static Option<T> Option<T>(string name, string description, T standard) =>
        new(name) { Description = description, DefaultValueFactory = _ => standard };

    /// <summary>An option that takes some of <paramref name="all"/>, and by default all of them.</summary>
    public static Option<string[]> Some(string name, params string[] all)
    {
        var option = new Option<string[]>(name)
        {
            Description = string.Join(", ", all),
            DefaultValueFactory = _ => all,
            AllowMultipleArgumentsPerToken = true,
        };
        option.AcceptOnlyFromAmong(all);
        return option;
    }

    /// <summary>Runs a trial. When a measurement is not valid, that is one line of output and exit code 1.</summary>
    public static async Task<int> Run(string name, Func<Task<int>> trial)
    {
        if (Console.IsOutputRedirected)
        {
            AnsiConsole.Profile.Width = TableWidth;
            AnsiConsole.Profile.Capabilities.Ansi = false;
        }

        try
        {
            return await trial();
        }
        catch (MeasurementException e)
        {
            Console.Error.WriteLine($"{name}: {e.Message}");
            return 1;
        }
        catch (OperationCanceledException)
        {
            return 130;
        }
    }

    public static double Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        int middle = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }

    /// <summary>This program with other arguments, for a namespace of the lab.</summary>
    public static string[] Self(params string[] arguments) => ["dotnet", typeof(Trial).Assembly.Location, .. arguments];
}
