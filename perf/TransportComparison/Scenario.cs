namespace TransportComparison;

/// <summary>The endpoints of HelloWeb that are measured.</summary>
internal enum Endpoint
{
    Http,
    Https,

    /// <summary>Cleartext HTTP/2, prior knowledge.</summary>
    H2c,
}

/// <summary>How a client sends its requests.</summary>
internal enum Pattern
{
    /// <summary>One at a time on each connection. Connections stay.</summary>
    KeepAlive,

    /// <summary>A connection for each request.</summary>
    Close,

    /// <summary>Sixteen requests in one write, and the next sixteen when all are answered.</summary>
    Pipelined,

    /// <summary>Sixteen streams of each connection busy.</summary>
    Streams,
}

/// <summary>A kind of load.</summary>
internal sealed record Scenario(
    string Name, string Path, int Connections, Pattern Pattern = Pattern.KeepAlive, Endpoint Endpoint = Endpoint.Http)
{
    public const string Default = "plaintext-c64";

    public static IReadOnlyList<Scenario> All { get; } =
    [
        new("plaintext-c1", "/plaintext", 1),
        new("plaintext-c4", "/plaintext", 4),
        new("plaintext-c64", "/plaintext", 64),
        new("plaintext-c512", "/plaintext", 512),
        new("json", "/json/items", 64),
        new("close", "/plaintext", 64, Pattern.Close),
        new("pipelined", "/plaintext", 64, Pattern.Pipelined),
        new("h2", "/plaintext", 8, Pattern.Streams, Endpoint.H2c),
        new("https", "/plaintext", 64, Pattern.KeepAlive, Endpoint.Https),
    ];

    public static string Names { get; } = string.Join(", ", All.Select(scenario => scenario.Name));

    /// <summary>The share of requests that may fail. Where connections stay, none has a reason to.</summary>
    /// <remarks>
    /// With a connection for each request, one may run into an earlier one that is still in TIME-WAIT, or lose its SYN.
    /// </remarks>
    public double TolerableFailures => Pattern == Pattern.Close ? 0.001 : 0;

    public static Scenario AdHoc(string path, int connections) => new($"{path} c{connections}", path, connections);

    /// <param name="names">Separated by commas, or <c>all</c>.</param>
    /// <param name="unknown">Names that are no scenario's.</param>
    public static IReadOnlyList<Scenario> Parse(string names, out IReadOnlyList<string> unknown)
    {
        string[] wanted = names == "all"
            ? [.. All.Select(scenario => scenario.Name)]
            : [.. names.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Distinct()];
        unknown = [.. wanted.Where(name => All.All(scenario => scenario.Name != name))];
        return [.. All.Where(scenario => wanted.Contains(scenario.Name))];
    }
}
