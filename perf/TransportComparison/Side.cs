namespace TransportComparison;

/// <summary>One of the two that are compared.</summary>
/// <param name="Name">Candidate or baseline.</param>
/// <param name="Transport"><c>xdp</c> or <c>sockets</c>.</param>
/// <param name="App">HelloWeb.dll.</param>
/// <param name="Link">The side's own, so that an XDP program there costs nothing to the other side's packets.</param>
/// <param name="Port">
/// The side's own. Both servers are in one namespace, and a wildcard endpoint takes its port on all interfaces.
/// </param>
internal sealed record Side(string Name, string Transport, string App, Link Link, int Port)
{
    /// <summary>Does its transport have the setting? A checkout from before always takes CUBIC.</summary>
    public bool ChoosesCongestionControl { get; } = Checkout.HasOption(App, "CongestionControl");
}
