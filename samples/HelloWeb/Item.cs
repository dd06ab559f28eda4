namespace HelloWeb;

/// <summary>What a list in JSON might hold.</summary>
internal sealed record Item(int Id, string Name, decimal Price, bool InStock)
{
    /// <summary>About 1.4 KB of JSON.</summary>
    public static Item[] Some { get; } =
        [.. Enumerable.Range(1, 24).Select(i => new Item(i, $"Item {i}", 10 + i / 4m, i % 3 > 0))];
}
