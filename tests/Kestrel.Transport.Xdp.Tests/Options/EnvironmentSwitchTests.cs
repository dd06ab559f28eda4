using System.Net;
using Kestrel.Transport.Xdp.Tests.Support;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Kestrel.Transport.Xdp.Tests.Options;

/// <summary>The environment is the process's: these tests run while no other does.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class EnvironmentCollection
{
    internal const string Name = "environment";
}

[Collection(EnvironmentCollection.Name)]
public sealed class EnvironmentSwitchTests : IDisposable
{
    private const string Switch = "KESTREL_XDP";

    private readonly string? _before = Environment.GetEnvironmentVariable(Switch);
    private readonly CollectingLogger _log = new();

    public void Dispose() => Environment.SetEnvironmentVariable(Switch, _before);

    [Theory]
    [InlineData("0")]
    [InlineData("false")]
    [InlineData("no")]
    [InlineData("off")]
    [InlineData("FALSE")]
    [InlineData(" Off ")]
    public void Off_ServesNothing_AndSaysSo(string value)
    {
        Environment.SetEnvironmentVariable(Switch, value);
        Assert.False(TakesEndpoint());
        Assert.Contains($"({Switch}={value.Trim()})", Assert.Single(_log.AboveDebug), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("1")]
    [InlineData("true")]
    [InlineData("Yes")]
    [InlineData("on")]
    public void On_IsAsWithoutIt(string? value)
    {
        Environment.SetEnvironmentVariable(Switch, value);
        Assert.True(TakesEndpoint());
        Assert.Empty(_log.AboveDebug);
    }

    [Fact]
    public void UnknownValue_HasNoEffect_AndIsSaid()
    {
        Environment.SetEnvironmentVariable(Switch, "offf");
        Assert.True(TakesEndpoint());
        Assert.Contains($"{Switch} is \"offf\"", Assert.Single(_log.AboveDebug), StringComparison.Ordinal);
    }

    [Fact]
    public void Off_WinsOverSettingsThatCannotWork()
    {
        Environment.SetEnvironmentVariable(Switch, "off");
        Assert.False(TakesEndpoint(
            new() { ["Kestrel:Xdp:Backlog"] = "many", ["Kestrel:Xdp:Nonsense"] = "1" },
            options => options.ReceiveRingSize = 3));
    }

    /// <summary>Sockets obey the source lists as well, so those are read all the same.</summary>
    [Fact]
    public void Off_WithSourceLists_TheirCompanionsServe()
    {
        Environment.SetEnvironmentVariable(Switch, "off");
        Assert.True(TakesEndpoint(
            new() { ["Kestrel:Xdp:DeniedSources:0"] = "192.0.2.0/24", ["Kestrel:Xdp:Nonsense"] = "1" }));
        Assert.Throws<OptionsValidationException>(
            () => TakesEndpoint(new() { ["Kestrel:Xdp:AllowedSources"] = "everybody" }));
    }

    [Fact]
    public void On_DoesNotWinOverEnabled()
    {
        Environment.SetEnvironmentVariable(Switch, "1");
        Assert.False(TakesEndpoint(new() { ["Kestrel:Xdp:Enabled"] = "false" }));
        Assert.Contains("(Enabled=false)", Assert.Single(_log.AboveDebug), StringComparison.Ordinal);
    }

    private bool TakesEndpoint(
        Dictionary<string, string?>? configuration = null, Action<XdpTransportOptions>? code = null)
    {
        using var logs = new OneLogger(_log);
        using ServiceProvider services = new ServiceCollection()
            .AddSingleton<ILoggerFactory>(logs)
            .AddSingleton<IConfiguration>(
                new ConfigurationBuilder().AddInMemoryCollection(configuration ?? []).Build())
            .AddXdpTransport(code)
            .BuildServiceProvider();
        return services.GetServices<IConnectionListenerFactory>().OfType<XdpTransportFactory>().Single()
            .CanBind(new IPEndPoint(IPAddress.Any, 80));
    }

    private sealed class OneLogger(ILogger logger) : ILoggerFactory
    {
        public ILogger CreateLogger(string categoryName) => logger;

        public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException();

        public void Dispose()
        {
        }
    }
}
