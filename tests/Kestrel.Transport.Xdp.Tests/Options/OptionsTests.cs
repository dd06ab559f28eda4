using System.Net;
using Kestrel.Transport.Xdp.Internal.Options;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Tests.Options;

public class OptionsTests
{
    [Fact]
    public void Defaults_AreValid() =>
        Assert.True(new XdpOptionsValidator().Validate(null, new XdpTransportOptions()).Succeeded);

    public static TheoryData<string, Action<XdpTransportOptions>> Mistakes => new()
    {
        { "Interfaces[0]", o => o.Interfaces.Add("a/b") },
        { "Interfaces[0]", o => o.Interfaces.Add(new string('a', 128)) },
        { "LocalAddresses", o => o.LocalAddresses = (LocalAddresses)9 },
        { "AttachMode", o => o.AttachMode = (AttachMode)9 },
        { "BindMode", o => o.BindMode = (BindMode)9 },
        { "ZeroCopy needs", o => { o.AttachMode = AttachMode.Generic; o.BindMode = BindMode.ZeroCopy; } },
        { "Queues is empty", o => o.Queues = [] },
        { "Queues has -1", o => o.Queues = [-1] },
        { "twice", o => o.Queues = [1, 1] },
        { "ReceiveRingSize", o => o.ReceiveRingSize = 1000 },
        { "TransmitRingSize", o => o.TransmitRingSize = 32 },
        { "FramesPerQueue", o => o.FramesPerQueue = 10 },
        { "MemoryBudget", o => o.MemoryBudget = 1000 },
        { "BusySpin", o => o.BusySpin = TimeSpan.FromSeconds(-1) },
        { "ShutdownLinger", o => o.ShutdownLinger = TimeSpan.FromDays(1) },
        { "ReceiveBufferMax", o => o.ReceiveBufferMax = 1 },
        { "SendBufferMax", o => o.SendBufferMax = 1 },
        { "CongestionControl", o => o.CongestionControl = (CongestionAlgorithm)9 },
        { "Backlog", o => o.Backlog = 0 },
        { "MaxReadBufferSize", o => o.MaxReadBufferSize = -1 },
        { "MaxWriteBufferSize", o => o.MaxWriteBufferSize = -1 },
    };

    [Theory]
    [MemberData(nameof(Mistakes))]
    public void Validate_Mistake_IsNamed(string named, Action<XdpTransportOptions> mistake)
    {
        var options = new XdpTransportOptions();
        mistake(options);
        ValidateOptionsResult result = new XdpOptionsValidator().Validate(null, options);
        Assert.True(result.Failed);
        Assert.Contains(named, result.FailureMessage, StringComparison.Ordinal);
    }

    [Fact]
    public void InterfaceDifferences_NamesWhatHostsOfAnInterfaceShare()
    {
        var mine = new XdpTransportOptions { Queues = [0], Required = true };
        var theirs = new XdpTransportOptions { Queues = [0], BusySpin = TimeSpan.FromMicroseconds(50), Backlog = 7 };
        Assert.Empty(Settings(mine).DifferencesTo(Settings(mine)));
        Assert.Equal(["BusySpin", "Backlog"], Settings(mine).DifferencesTo(Settings(theirs)));

        static InterfaceSettings Settings(XdpTransportOptions options) =>
            InterfaceSettings.From(options, new SocketTransportOptions(), TcpSysctls.None);
    }

    [Fact]
    public void Configuration_EverySetting_IsRead()
    {
        XdpTransportOptions options = FromConfiguration(new()
        {
            ["Kestrel:Xdp:Enabled"] = "false",
            ["Kestrel:Xdp:Interfaces:0"] = "eth0",
            ["Kestrel:Xdp:Interfaces:1"] = "eth1",
            ["Kestrel:Xdp:LocalAddresses"] = "all",
            ["Kestrel:Xdp:AttachMode"] = "generic",
            ["Kestrel:Xdp:BindMode"] = "Copy",
            ["Kestrel:Xdp:Queues"] = "0, 2",
            ["Kestrel:Xdp:FramesPerQueue"] = "4096",
            ["Kestrel:Xdp:MemoryBudget"] = "100000000",
            ["Kestrel:Xdp:ReceiveRingSize"] = "1024",
            ["Kestrel:Xdp:TransmitRingSize"] = "512",
            ["Kestrel:Xdp:BusySpin"] = "00:00:00.0000500",
            ["Kestrel:Xdp:Required"] = "true",
            ["Kestrel:Xdp:AllowedSources:0"] = "10.0.0.0/8",
            ["Kestrel:Xdp:DeniedSources"] = "10.1.2.3,2001:db8::/32",
            ["Kestrel:Xdp:ShutdownLinger"] = "00:00:07",
            ["Kestrel:Xdp:ShutdownLingerMax"] = "00:00:40",
            ["Kestrel:Xdp:KeepAliveTime"] = "00:02:00",
            ["Kestrel:Xdp:KeepAliveInterval"] = "00:00:10",
            ["Kestrel:Xdp:KeepAliveCount"] = "3",
            ["Kestrel:Xdp:UserTimeout"] = "00:01:00",
            ["Kestrel:Xdp:ReceiveBufferMax"] = "100000",
            ["Kestrel:Xdp:SendBufferMax"] = "200000",
            ["Kestrel:Xdp:CongestionControl"] = "bbr",
            ["Kestrel:Xdp:Backlog"] = "7",
            ["Kestrel:Xdp:NoDelay"] = "false",
            ["Kestrel:Xdp:SegmentationOffload"] = "false",
            ["Kestrel:Xdp:MaxReadBufferSize"] = "1",
            ["Kestrel:Xdp:MaxWriteBufferSize"] = "2",
            ["Kestrel:Xdp:UnsafePreferInlineScheduling"] = "true",
        });
        Assert.False(options.Enabled);
        Assert.Equal(["eth0", "eth1"], options.Interfaces);
        Assert.Equal(LocalAddresses.All, options.LocalAddresses);
        Assert.Equal(AttachMode.Generic, options.AttachMode);
        Assert.Equal(BindMode.Copy, options.BindMode);
        Assert.Equal([0, 2], options.Queues!);
        Assert.Equal(4096, options.FramesPerQueue);
        Assert.Equal(100_000_000, options.MemoryBudget);
        Assert.Equal(1024, options.ReceiveRingSize);
        Assert.Equal(512, options.TransmitRingSize);
        Assert.Equal(TimeSpan.FromMicroseconds(50), options.BusySpin);
        Assert.True(options.Required);
        Assert.Equal([IPNetwork.Parse("10.0.0.0/8")], options.AllowedSources);
        Assert.Equal([IPNetwork.Parse("10.1.2.3/32"), IPNetwork.Parse("2001:db8::/32")], options.DeniedSources);
        Assert.Equal(TimeSpan.FromSeconds(7), options.ShutdownLinger);
        Assert.Equal(TimeSpan.FromSeconds(40), options.ShutdownLingerMax);
        Assert.Equal(TimeSpan.FromMinutes(2), options.KeepAliveTime);
        Assert.Equal(TimeSpan.FromSeconds(10), options.KeepAliveInterval);
        Assert.Equal(3, options.KeepAliveCount);
        Assert.Equal(TimeSpan.FromMinutes(1), options.UserTimeout);
        Assert.Equal(100_000, options.ReceiveBufferMax);
        Assert.Equal(200_000, options.SendBufferMax);
        Assert.Equal(CongestionAlgorithm.Bbr, options.CongestionControl);
        Assert.Equal(7, options.Backlog);
        Assert.False(options.NoDelay);
        Assert.False(options.SegmentationOffload);
        Assert.Equal(1, options.MaxReadBufferSize);
        Assert.Equal(2, options.MaxWriteBufferSize);
        Assert.True(options.UnsafePreferInlineScheduling);
    }

    [Fact]
    public void Configuration_CoversEveryProperty()
    {
        // EndpointFilter is code.
        Assert.Equal(30, typeof(XdpTransportOptions).GetProperties().Length);
    }

    [Fact]
    public void Configuration_CodeComesAfter()
    {
        XdpTransportOptions options = FromConfiguration(new() { ["Kestrel:Xdp:Backlog"] = "7" }, o => o.Backlog = 9);
        Assert.Equal(9, options.Backlog);
    }

    [Fact]
    public void Interfaces_FromConfigurationAndCode_MayBeTheSame()
    {
        XdpTransportOptions options = FromConfiguration(
            new() { ["Kestrel:Xdp:Interfaces"] = "eth0,eth1" }, o => o.Interfaces.Add("eth1"));
        Assert.Equal(["eth0", "eth1"], options.Interfaces.Distinct());
    }

    [Fact]
    public void OtherNamesOfInterfaces_AreValid()
    {
        var options = new XdpTransportOptions { Interfaces = { new string('a', 127) } };
        Assert.True(new XdpOptionsValidator().Validate(null, options).Succeeded);
    }

    [Fact]
    public void Disabled_SettingsThatCannotWork_AreNoMistake()
    {
        var options = new XdpTransportOptions { Enabled = false, ReceiveRingSize = 3 };
        Assert.True(new XdpOptionsValidator().Validate(null, options).Succeeded);
    }

    [Theory]
    [InlineData("Enabled", "nein")]
    [InlineData("Backlog", "many")]
    [InlineData("AttachMode", "sideways")]
    [InlineData("BusySpin", "soon")]
    [InlineData("AllowedSources", "10.0.0.1/99")]
    [InlineData("Required", "perhaps")]
    [InlineData("Interface", "eth0")]
    public void Configuration_Mistake_NamesKey(string key, string value)
    {
        var error = Assert.Throws<OptionsValidationException>(
            () => FromConfiguration(new() { ["Kestrel:Xdp:" + key] = value }));
        Assert.Contains("Kestrel:Xdp:" + key, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Settings_NullInherits_ElseOwn()
    {
        var sockets = new SocketTransportOptions
        {
            Backlog = 3,
            NoDelay = false,
            MaxReadBufferSize = null,
            MaxWriteBufferSize = 5,
            UnsafePreferInlineScheduling = true,
        };
        var inherited = new TransportSettings(new XdpTransportOptions(), sockets);
        Assert.Equal((3, false, 0, 5, true), Values(inherited));
        Assert.Same(sockets, inherited.Sockets);

        var own = new TransportSettings(
            new XdpTransportOptions
            {
                Backlog = 4,
                NoDelay = true,
                MaxReadBufferSize = 6,
                MaxWriteBufferSize = 0,
                UnsafePreferInlineScheduling = false,
            },
            sockets);
        Assert.Equal((4, true, 6, 0, false), Values(own));

        static (int, bool, long, long, bool) Values(TransportSettings settings) => (
            settings.ForInterface(TcpSysctls.None).Backlog,
            settings.ForInterface(TcpSysctls.None).NoDelay,
            settings.MaxReadBufferSize,
            settings.MaxWriteBufferSize,
            settings.ForInterface(TcpSysctls.None).UnsafePreferInlineScheduling);
    }

    private static XdpTransportOptions FromConfiguration(
        Dictionary<string, string?> values, Action<XdpTransportOptions>? code = null)
    {
        using ServiceProvider services = new ServiceCollection()
            .AddSingleton<IConfiguration>(new ConfigurationBuilder().AddInMemoryCollection(values).Build())
            .AddXdpTransport(code)
            .BuildServiceProvider();
        return services.GetRequiredService<IOptions<XdpTransportOptions>>().Value;
    }
}
