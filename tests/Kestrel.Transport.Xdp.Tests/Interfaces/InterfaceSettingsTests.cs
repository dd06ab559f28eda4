using System.Reflection;
using Kestrel.Transport.Xdp.Internal.Options;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Interfaces;

public class InterfaceSettingsTests
{
    private static readonly Dictionary<string, Action<XdpTransportOptions>> Changes = new()
    {
        ["AttachMode"] = o => o.AttachMode = AttachMode.Generic,
        ["BindMode"] = o => o.BindMode = BindMode.Copy,
        ["LocalAddresses"] = o => o.LocalAddresses = LocalAddresses.All,
        ["Queues"] = o => o.Queues = [1, 0],
        ["FramesPerQueue"] = o => o.FramesPerQueue = 777,
        ["MemoryBudget"] = o => o.MemoryBudget++,
        ["ReceiveRingSize"] = o => o.ReceiveRingSize *= 2,
        ["TransmitRingSize"] = o => o.TransmitRingSize *= 2,
        ["BusySpin"] = o => o.BusySpin = TimeSpan.FromTicks(1),
        ["ReceiveBufferMax"] = o => o.ReceiveBufferMax = 5000,
        ["SendBufferMax"] = o => o.SendBufferMax = 5000,
        ["CongestionControl"] = o => o.CongestionControl = CongestionAlgorithm.Bbr,
        ["KeepAliveTime"] = o => o.KeepAliveTime = TimeSpan.FromSeconds(1),
        ["KeepAliveInterval"] = o => o.KeepAliveInterval = TimeSpan.FromSeconds(1),
        ["KeepAliveCount"] = o => o.KeepAliveCount = 1,
        ["UserTimeout"] = o => o.UserTimeout = TimeSpan.FromSeconds(1),
        ["Backlog"] = o => o.Backlog = 1,
        ["NoDelay"] = o => o.NoDelay = false,
        ["SegmentationOffload"] = o => o.SegmentationOffload = false,
        ["UnsafePreferInlineScheduling"] = o => o.UnsafePreferInlineScheduling = true,
    };

    public static TheoryData<string> Names => [.. Changes.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void EachSetting_IsComparedByName(string name)
    {
        XdpTransportOptions changed = Options();
        Changes[name](changed);
        Assert.Equal([name], From(Options()).DifferencesTo(From(changed)));
    }

    [Fact]
    public void EachSetting_IsAmongThoseTried() => Assert.Equal(
        typeof(InterfaceSettings).GetProperties(BindingFlags.Instance | BindingFlags.NonPublic | BindingFlags.Public)
            .Select(p => p.Name).Order(),
        Changes.Keys.Append(nameof(InterfaceSettings.Sysctls)).Order());

    // Their own tests are TcpSysctlsTests.
    [Fact]
    public void Sysctls_AreCompared()
    {
        InterfaceSettings other = InterfaceSettings.From(
            Options(), new SocketTransportOptions(), TcpSysctls.None with
            {
                Stack = new TcpStackOptions { TimeToLive = 9 },
            });
        Assert.Equal(["Sysctls"], From(Options()).DifferencesTo(other));
    }

    [Fact]
    public void SameValuesInOtherLists_AreNoDifference() =>
        Assert.Empty(From(Options()).DifferencesTo(From(Options())));

    [Fact]
    public void OptionsThatChangeLater_DoNotMatter()
    {
        XdpTransportOptions options = Options();
        InterfaceSettings settings = From(options);
        options.Queues!.Add(5);
        Assert.Empty(settings.DifferencesTo(From(Options())));
    }

    private static XdpTransportOptions Options() => new() { Queues = [0, 1] };

    private static InterfaceSettings From(XdpTransportOptions options) =>
        InterfaceSettings.From(options, new SocketTransportOptions(), TcpSysctls.None);
}
