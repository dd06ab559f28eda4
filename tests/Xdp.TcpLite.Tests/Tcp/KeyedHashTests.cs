namespace Xdp.TcpLite.Tests;

public class KeyedHashTests
{
    private static readonly byte[] s_key = [.. Enumerable.Range(0, 16).Select(i => (byte)i)];

    private static byte[] Input(int length) => [.. Enumerable.Range(0, length).Select(i => (byte)i)];

    /// <summary>From the paper and its reference implementation.</summary>
    [Theory]
    [InlineData(0, 0x726fdb47dd0e0e31)]
    [InlineData(15, 0xa129ca6149be45e5)]
    public void Hash24_ReferenceVectors_Match(int length, ulong expected) =>
        Assert.Equal(expected, new KeyedHash(s_key).Hash24(Input(length)));

    [Theory]
    [InlineData(0, 0xabac0158050fc4dc)]
    [InlineData(1, 0xc9f49bf37d57ca93)]
    [InlineData(7, 0xd3927d989bb11140)]
    [InlineData(8, 0x369095118d299a8e)]
    [InlineData(15, 0xd320d86d2a519956)]
    [InlineData(16, 0xcc4fdd1a7d908b66)]
    [InlineData(36, 0x2cf508d3ada26206)]
    [InlineData(63, 0x9d199062b7bbb3a8)]
    public void Hash13_ReferenceVectors_Match(int length, ulong expected) =>
        Assert.Equal(expected, new KeyedHash(s_key).Hash13(Input(length)));

    /// <summary>CPython hashes strings with SipHash-1-3, under a zero key when PYTHONHASHSEED is 0.</summary>
    [Fact]
    public void Hash13_OfCPython_Matches() =>
        Assert.Equal(0xd792fbf81ec197f9, new KeyedHash(new byte[16]).Hash13("hello, world"u8));

    [Fact]
    public void Hash_OfAFlow_IsSipHashOfItsWords()
    {
        var flow = new FlowKey(
            new IpAddr(0x0706050403020100, 0x0f0e0d0c0b0a0908), new IpAddr(0x1716151413121110, 0x1f1e1d1c1b1a1918),
            0x2322, 0x2120);
        Assert.Equal(0x2cf508d3ada26206UL, new KeyedHash(s_key).Hash(flow));
        byte[] words = [.. Input(32), 8, 7, 6, 5, 4, 3, 2, 1, .. Input(36)[32..]];
        Assert.Equal(new KeyedHash(s_key).Hash24(words), new KeyedHash(s_key).Hash24(flow, 0x0102030405060708));
    }

    [Fact]
    public void Derive_PurposesAndEverySecretByte_GiveDifferentKeys()
    {
        byte[] secret = Input(32);
        var seen = new HashSet<ulong>();
        foreach (KeyPurpose purpose in Enum.GetValues<KeyPurpose>())
            Assert.True(seen.Add(KeyedHash.Derive(secret, purpose).Hash(SegmentBuilder.FlowV4)));
        for (int i = 0; i < secret.Length; i++)
        {
            secret[i] ^= 0x80;
            Assert.True(seen.Add(KeyedHash.Derive(secret, KeyPurpose.FlowTable).Hash(SegmentBuilder.FlowV4)));
            secret[i] ^= 0x80;
        }
    }
}
