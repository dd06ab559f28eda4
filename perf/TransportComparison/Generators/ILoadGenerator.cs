namespace TransportComparison.Generators;

/// <summary>A tool that makes the load of one scenario: how it is called, and how its report is read.</summary>
internal interface ILoadGenerator
{
    string Name { get; }

    string[] Command(string url, int seconds);

    /// <exception cref="FormatException">The report is not as it was expected.</exception>
    Load Parse(string report);
}
