using System.Net;
using Kestrel.Transport.Xdp.Internal.Options;

namespace Kestrel.Transport.Xdp.Tests.Options;

public class SourceListsTests
{
    [Theory]
    [InlineData("", "", "198.51.100.1", true)]
    [InlineData("10.0.0.0/8", "", "10.255.255.255", true)]
    [InlineData("10.0.0.0/8", "", "11.0.0.0", false)]
    [InlineData("10.0.0.0/8", "", "::ffff:10.1.2.3", true)]
    [InlineData("10.0.0.0/8", "", "2001:db8::1", false)]
    [InlineData("2001:db8::/32", "", "2001:db8:ffff::1", true)]
    [InlineData("2001:db8::/32", "", "2001:db9::", false)]
    [InlineData("10.0.0.0/8,10.1.0.0/16,11.0.0.0/8", "", "11.255.0.1", true)]
    [InlineData("10.0.0.0/8,10.1.0.0/16,12.0.0.0/8", "", "11.255.0.1", false)]
    [InlineData("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", false)]
    [InlineData("", "0.0.0.0/0", "203.0.113.1", false)]
    [InlineData("", "0.0.0.0/0", "2001:db8::1", true)]
    [InlineData("", "::/0", "203.0.113.1", false)]
    [InlineData("192.0.2.0/24", "", "127.0.0.1", true)]
    [InlineData("192.0.2.0/24", "", "::ffff:127.0.0.1", true)]
    [InlineData("192.0.2.0/24", "", "::1", true)]
    [InlineData("", "127.0.0.0/8", "127.0.0.1", false)]
    [InlineData("127.0.0.0/8", "::1/128", "::1", false)]
    public void Admit_IsAsTheProgramDecides_ButForLoopback(
        string allowed, string denied, string source, bool expected) =>
        Assert.Equal(expected, Lists(allowed, denied).Admit(IPAddress.Parse(source)));

    [Fact]
    public void Admit_ManyPrefixes_IsWhatEachOfThemSays()
    {
        var random = new Random(7);
        IPNetwork[] networks = [.. Enumerable.Range(0, 300).Select(_ => Random(random, random.Next(4, 25)))];
        var lists = new SourceLists(networks, []);
        int admitted = 0;
        for (int i = 0; i < 20_000; i++)
        {
            IPAddress source = Random(random, 32).BaseAddress;
            bool expected = networks.Any(network => network.Contains(source)) || IPAddress.IsLoopback(source);
            Assert.True(expected == lists.Admit(source), $"{source}");
            admitted += expected ? 1 : 0;
        }
        Assert.InRange(admitted, 1_000, 19_000);
    }

    [Theory]
    [InlineData("10.0.0.0/8", "", "10.0.0.0/8", "", "10.0.0.0/8", "")]
    [InlineData("10.0.0.0/8", "", "", "10.1.0.0/16", "10.0.0.0/8", "10.1.0.0/16")]
    [InlineData("10.0.0.0/8,11.0.0.0/8", "", "10.1.0.0/16,12.0.0.0/8", "", "10.1.0.0/16", "")]
    [InlineData("10.0.0.0/8", "", "11.0.0.0/8", "", "", "::/0")]
    public void Strictest_LetsInWhomBothDo(
        string allowed, string denied, string otherAllowed, string otherDenied, string both, string neither)
    {
        SourceLists strictest = SourceLists.Strictest([Lists(allowed, denied), Lists(otherAllowed, otherDenied)]);
        Assert.Null(strictest.DifferenceTo(Lists(both, neither)));
    }

    [Theory]
    [InlineData("", "", "")]
    [InlineData("10.0.0.0/8", "", " AllowedSources (1) is in force, for sockets as well; loopback is exempt.")]
    [InlineData(
        "10.0.0.0/8", "10.1.0.0/16,::1/128",
        " AllowedSources (1) and DeniedSources (2) are in force, for sockets as well; loopback is denied.")]
    public void Describe_SaysWhatIsInForce(string allowed, string denied, string expected) =>
        Assert.Equal(expected, Lists(allowed, denied).Describe());

    private static IPNetwork Random(Random random, int length)
    {
        Span<byte> bytes = stackalloc byte[4];
        random.NextBytes(bytes);
        uint mask = uint.MaxValue << (32 - length);
        for (int i = 0; i < 4; i++)
            bytes[i] &= (byte)(mask >> (24 - 8 * i));
        return new IPNetwork(new IPAddress(bytes), length);
    }

    private static SourceLists Lists(string allowed, string denied) => new(Networks(allowed), Networks(denied));

    private static IEnumerable<IPNetwork> Networks(string list) =>
        list.Split(',', StringSplitOptions.RemoveEmptyEntries).Select(IPNetwork.Parse);
}
