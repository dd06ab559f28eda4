using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Primitives;

namespace Kestrel.Transport.Xdp.Internal.Options;

/// <summary>
/// Tells when the configuration has been read again, which is also when Kestrel changes its endpoints. Of the
/// transport's options, the source lists follow it.
/// </summary>
internal sealed class SourceReload(IServiceProvider services)
{
    /// <summary>
    /// Calls one of the two at each reload, until the result is disposed. Neither may throw: the thread is that of
    /// whoever reloads.
    /// </summary>
    /// <param name="changed">Gets the lists, changed or not.</param>
    /// <param name="refused">Gets the reason why the options cannot be read. Nothing changes then.</param>
    internal IDisposable? Watch(Action<SourceLists> changed, Action<Exception> refused)
    {
        if (services.GetService<IConfiguration>() is not { } configuration)
            return null;
        return ChangeToken.OnChange(configuration.GetReloadToken, () =>
        {
            try
            {
                IOptionsFactory<XdpTransportOptions> options =
                    services.GetRequiredService<IOptionsFactory<XdpTransportOptions>>();
                changed(SourceLists.From(options.Create(Microsoft.Extensions.Options.Options.DefaultName)));
            }
            catch (Exception e)
            {
                refused(e);
            }
        });
    }
}
