namespace TransportComparison;

/// <summary>The endpoints of HelloWeb that are measured.</summary>
internal enum Endpoint
{
    Http,
    Https,

    /// <summary>Cleartext HTTP/2, prior knowledge.</summary>
    H2c,
}

/// <summary>How a client asks, where it is not one request at a time on connections that stay.</summary>
internal enum Pattern
{
    KeepAlive,

    /// <summary>A connection for each request.</summary>
    Close,

    /// <summary>Sixteen requests in one write, and the next sixteen when all are answered.</summary>
    Pipelined,

    /// <summary>Sixteen streams of each connection busy.</summary>
    Streams,
}

/// <summary>A kind of load.</summary>
internal sealed record Scenario(string Name, string Path, int Connections, Pattern Pattern = Pattern.KeepAlive, Endpoint Endpoint = Endpoint.Http)
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

    /// <summary>Of requests that fail, how many are let pass. Where connections stay, not one has a reason to.</summary>
    /// <remarks>With a connection for each request the client may run into one of its own that is still in TIME-WAIT, say.</remarks>
    public double TolerableFailures => Pattern == Pattern.Close ? 0.001 : 0;

    public static Scenario AdHoc(string path, int connections) => new($"{path} c{connections}", path, connections);

    /// <param name="names">Separated by commas, or <c>all</c>.</param>
    /// <param name="unknown">The names that there are none of.</param>
    public static IReadOnlyList<Scenario> Parse(string names, out IReadOnlyList<string> unknown)
    {
        string[] wanted = names == "all"
            ? [.. All.Select(scenario => scenario.Name)]
            : [.. names.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Distinct()];
        unknown = [.. wanted.Where(name => All.All(scenario => scenario.Name != name))];
        return [.. All.Where(scenario => wanted.Contains(scenario.Name))];
    }
}
