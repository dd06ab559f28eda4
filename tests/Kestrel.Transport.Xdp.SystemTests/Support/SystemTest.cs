using System.Net;
using System.Text.Json;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests.Support;

/// <summary>
/// What every test does besides its own matter: a server of its own, the proof of path, the frames, a clean end.
/// </summary>
public abstract class SystemTest(ITestOutputHelper output)
{
    protected ITestOutputHelper Output => output;

    /// <summary>
    /// Starts HelloWeb on XDP and runs the test. Then asserts that all traffic went over AF_XDP, that every frame is
    /// home once the connections are closed, and that the server ends in order.
    /// </summary>
    private protected async Task OnXdpAsync(Namespace at, HelloWebSettings settings, Func<HelloWebServer, Task> test)
    {
        await using HelloWebServer server = await HelloWebServer.StartAsync(at, settings);
        try
        {
            ProofOfPath proof = await ProofOfPath.BeginAsync(server);
            await test(server);
            await proof.AssertAsync();
            await proof.AssertQuietAsync();
            await server.StopAsync();
        }
        catch
        {
            await WriteEvidenceAsync(server);
            throw;
        }
    }

    private protected Task OnXdpAsync(Lab lab, Func<HelloWebServer, Task> test) =>
        OnXdpAsync(lab.Server, new HelloWebSettings(), test);

    /// <summary>
    /// The same without assertions about path and frames, for tests that leave XDP or end the server themselves.
    /// </summary>
    private protected async Task WithServerAsync(
        Namespace at, HelloWebSettings settings, Func<HelloWebServer, Task> test)
    {
        await using HelloWebServer server = await HelloWebServer.StartAsync(at, settings);
        try
        {
            await test(server);
        }
        catch
        {
            await WriteEvidenceAsync(server);
            throw;
        }
    }

    /// <summary>Asks /connection over a client's connection.</summary>
    private protected static async Task<ConnectionFacts> FactsAsync(HttpClient client, Uri url, Version? version = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, url);
        if (version is not null)
            (request.Version, request.VersionPolicy) = (version, HttpVersionPolicy.RequestVersionExact);
        using HttpResponseMessage response = await client.SendAsync(request);
        return ConnectionFacts.Parse(await response.Content.ReadAsStringAsync());
    }

    private async Task WriteEvidenceAsync(HelloWebServer server)
    {
        try
        {
            if (!server.HasExited)
                output.WriteLine($"Counters:\n{await server.CountersAsync()}");
        }
        catch (Exception e)
        {
            output.WriteLine($"No counters: {e.Message}");
        }
        output.WriteLine($"The server wrote:\n{server.Log}");
    }
}

/// <summary>What /connection answers.</summary>
internal sealed record ConnectionFacts(
    string Transport, bool Companion, string? Interface, int? Queue, string? BindMode, string Local, string Remote,
    string Protocol)
{
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web);

    internal static ConnectionFacts Parse(string json) => JsonSerializer.Deserialize<ConnectionFacts>(json, Json)!;

    internal void AssertOnXdp(string device = Lab.Interface)
    {
        Assert.Equal("xdp", Transport);
        Assert.Equal(device, Interface);
        Assert.False(Companion);
    }

    internal void AssertOnCompanion()
    {
        Assert.Equal("sockets", Transport);
        Assert.True(Companion);
    }

    internal IPEndPoint RemoteEndPoint => IPEndPoint.Parse(Remote);
}
