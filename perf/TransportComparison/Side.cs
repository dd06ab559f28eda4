namespace TransportComparison;

/// <summary>One of the two that are compared.</summary>
/// <param name="Name">Candidate or baseline.</param>
/// <param name="Transport"><c>xdp</c> or <c>sockets</c>.</param>
/// <param name="App">HelloWeb.dll.</param>
/// <param name="Link">The side's own: an XDP program there costs nobody else's packets anything.</param>
/// <param name="Port">The side's own: both servers are in one namespace, and a wildcard endpoint has its port on all
/// interfaces.</param>
internal sealed record Side(string Name, string Transport, string App, Link Link, int Port);
