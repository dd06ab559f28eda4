using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

[Collection(DirectCollection.Name)]
public sealed class LoadTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    [SkippableTheory]
    [InlineData(64, false)]
    [InlineData(64, true)]
    [InlineData(512, false)]
    public async Task Wrk_HasNoSocketErrors(int connections, bool inline)
    {
        Lab.Require("wrk");
        await OnXdpAsync(lab.Server, new HelloWebSettings { Inline = inline }, async server =>
        {
            string report =
                (await lab.Client.RunAsync("wrk", "-t1", $"-c{connections}", "-d5", $"{server.Url("/plaintext")}"))
                    .Succeeded();
            Output.WriteLine(report);
            Assert.True(WrkReport.AssertNoErrors(report) > connections);
            Assert.True((await server.CountersAsync()).Accepted >= connections);
        });
    }
}
