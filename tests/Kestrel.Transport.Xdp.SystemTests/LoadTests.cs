using System.Globalization;
using System.Text.RegularExpressions;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

[Collection(DirectCollection.Name)]
public sealed partial class LoadTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
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
            Assert.DoesNotContain("Socket errors", report, StringComparison.Ordinal);
            Assert.DoesNotContain("Non-2xx", report, StringComparison.Ordinal);
            Assert.True(
                int.Parse(Requests().Match(report).Groups[1].Value, CultureInfo.InvariantCulture) > connections);
            Assert.True((await server.CountersAsync()).Accepted >= connections);
        });
    }

    [GeneratedRegex("([0-9]+) requests in ")]
    private static partial Regex Requests();
}
