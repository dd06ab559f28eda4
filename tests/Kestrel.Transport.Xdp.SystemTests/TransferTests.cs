using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using Kestrel.Transport.Xdp.SystemTests.Support;
using Xunit.Abstractions;

namespace Kestrel.Transport.Xdp.SystemTests;

[Collection(DirectCollection.Name)]
public sealed class TransferTests(DirectLab lab, ITestOutputHelper output) : SystemTest(output)
{
    private const long Bytes = 200_000_000;

    [SkippableFact]
    public async Task Transfer_Of200MegabytesEachWay_HasEqualSha256()
    {
        Lab.Require("curl");
        string file = Path.GetTempFileName();
        try
        {
            await OnXdpAsync(lab, async server =>
            {
                string expected = Sha256(
                    await server.ControlAsync(string.Create(CultureInfo.InvariantCulture, $"/bytes/{Bytes}/sha256")));

                string facts = (await lab.Client.RunAsync("curl", "-sS", "--max-time", "100",
                    "-o", file, string.Create(CultureInfo.InvariantCulture, $"{server.Url("/bytes")}/{Bytes}"),
                    "-o", "-", $"{server.Url("/connection")}")).Succeeded();
                ConnectionFacts.Parse(facts).AssertOnXdp();
                Assert.Equal(Bytes, new FileInfo(file).Length);
                await using (FileStream stream = File.OpenRead(file))
                    Assert.Equal(expected, Convert.ToHexStringLower(await SHA256.HashDataAsync(stream)));

                string[] answers = (await lab.Client.RunAsync("curl", "-sS", "--max-time", "100", "-w", "\n",
                    "-X", "POST", "-T", file, $"{server.Url("/upload")}", "--next", "-sS",
                    $"{server.Url("/connection")}")).Succeeded().Split('\n');
                Assert.Equal(expected, Sha256(answers[0]));
                ConnectionFacts.Parse(answers[1]).AssertOnXdp();
            });
        }
        finally
        {
            File.Delete(file);
        }
    }

    internal static string Sha256(string json)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        return document.RootElement.GetProperty("sha256").GetString()!;
    }
}
