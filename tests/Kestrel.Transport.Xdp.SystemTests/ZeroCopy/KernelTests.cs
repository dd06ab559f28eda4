using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests.ZeroCopy;

/// <summary>
/// The kernels that README names, apart from the one that the tests run on. Each is booted in a guest, which takes a
/// minute: <c>./test --kernels</c> runs these tests, and nothing else does.
/// </summary>
[Trait("Category", "Kernels")]
public sealed class KernelTests(ITestOutputHelper output)
{
    private const int Bytes = 1_000_000;

    [SkippableTheory]
    [InlineData("6.1")]
    [InlineData("6.12")]
    public async Task Kernel_LoadsAttachesServesAndDetaches(string kernel)
    {
        var guest = new Guest(kernel);
        await guest.InitializeAsync();
        try
        {
            guest.Require("curl");
            string release = (await guest.RunAsync("uname -r")).Succeeded();
            output.WriteLine(release);
            Assert.StartsWith($"{kernel}.", release, StringComparison.Ordinal);
            await ServeAsync(guest);
        }
        finally
        {
            await guest.DisposeAsync();
        }
    }

    private async Task ServeAsync(Guest guest)
    {
        GuestServer server = await GuestServer.StartAsync(guest, bindMode: "Copy");
        try
        {
            Assert.True(await server.IsAttachedAsync());
            using HttpClient client = guest.Client.HttpClient();
            ConnectionFacts.Parse(await client.GetStringAsync(GuestServer.Url("/connection"))).AssertOnXdp();
            byte[] down = await client.GetByteArrayAsync(GuestServer.Url($"/bytes/{Bytes}"));
            Assert.Equal(Bytes, down.Length);
            Pattern.AssertMatches(down, 0);
            using HttpResponseMessage answer =
                await client.PostAsync(GuestServer.Url("/upload"), new ByteArrayContent(down));
            answer.EnsureSuccessStatusCode();
            ConnectionFacts.Parse(await client.GetStringAsync(GuestServer.Url("/connection"))).AssertOnXdp();
            client.Dispose();
            await server.AssertQuietAsync();
            await server.SignalToStopAsync();
            await server.AssertCleanExitAsync();
            Assert.False(await server.IsAttachedAsync());
        }
        catch
        {
            output.WriteLine($"The server wrote:\n{await server.LogAsync()}");
            throw;
        }
    }
}
