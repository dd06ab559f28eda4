using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;

namespace Kestrel.Transport.Xdp.Tests.Listeners;

public class RegistrationTests
{
    private static readonly Type[] SocketsThenXdp = [typeof(SocketTransportFactory), typeof(XdpTransportFactory)];

    [Fact]
    public async Task UseXdpTransport_WebApplication_KeepsSocketsAndComesLast()
    {
        WebApplicationBuilder builder = WebApplication.CreateBuilder();
        builder.WebHost.UseXdpTransport();
        await using WebApplication app = builder.Build();
        Assert.Equal(SocketsThenXdp, Factories(app.Services).TakeLast(2));
    }

    [Fact]
    public async Task UseXdpTransport_Slim_KeepsSocketsAndComesLast()
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseXdpTransport(o => o.Backlog = 5);
        await using WebApplication app = builder.Build();
        Assert.Equal(SocketsThenXdp, Factories(app.Services));
        Assert.Equal(5, app.Services.GetRequiredService<IOptions<XdpTransportOptions>>().Value.Backlog);
    }

    [Fact]
    public void UseXdpTransport_BareHostBeforeKestrel_SocketsAreThere()
    {
        using IHost host = new HostBuilder()
            .ConfigureWebHost(web => web.UseXdpTransport().UseKestrel().Configure(static _ => { }))
            .Build();
        Assert.Equal(SocketsThenXdp, Factories(host.Services).TakeLast(2));
    }

    [Fact]
    public void UseXdpTransport_BareHostAfterKestrel_SocketsAreThere()
    {
        using IHost host = new HostBuilder()
            .ConfigureWebHost(web => web.UseKestrel().UseXdpTransport().Configure(static _ => { }))
            .Build();
        Assert.Equal(SocketsThenXdp, Factories(host.Services).TakeLast(2));
    }

    [Fact]
    public void UseXdpTransport_Twice_RegistersOnceAndConfiguresTwice()
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseXdpTransport(o => o.Interfaces.Add("a"));
        builder.WebHost.UseXdpTransport(o => o.Interfaces.Add("b"));
        using ServiceProvider services = builder.Services.BuildServiceProvider();
        Assert.Equal(SocketsThenXdp, Factories(services));
        Assert.Equal(["a", "b"], services.GetRequiredService<IOptions<XdpTransportOptions>>().Value.Interfaces);
    }

    [Fact]
    public void AddXdpTransport_EmptyCollection_AddsSocketsFirst()
    {
        using ServiceProvider services = new ServiceCollection().AddLogging().AddXdpTransport().AddXdpTransport()
            .BuildServiceProvider();
        Assert.Equal(SocketsThenXdp, Factories(services));
    }

    [Fact]
    public void UseXdpTransport_WrongOptions_FailWhenTheServerIsMade()
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseXdpTransport(o => o.ReceiveRingSize = 3);
        using ServiceProvider services = builder.Services.BuildServiceProvider();
        var error = Assert.Throws<OptionsValidationException>(
            () => services.GetServices<IConnectionListenerFactory>().ToArray());
        Assert.Contains("ReceiveRingSize is 3", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Dispose_WithoutEndpoints_DoesNotThrow()
    {
        ServiceProvider services = new ServiceCollection().AddLogging().AddMetrics().AddXdpTransport()
            .BuildServiceProvider();
        Assert.NotEmpty(services.GetServices<IConnectionListenerFactory>());
        services.Dispose();
    }

    private static IEnumerable<Type> Factories(IServiceProvider services) =>
        services.GetServices<IConnectionListenerFactory>().Select(f => f.GetType())
            .Where(t => SocketsThenXdp.Contains(t));
}
