using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Internal.Logging;

/// <summary>
/// Steps that are to be done one after the other, whatever comes of those before. What fails is logged: whoever ends
/// has no use for an exception, and what is left must not stay attached.
/// </summary>
/// <param name="logger">One that does not throw.</param>
/// <param name="what">That ends, for the log.</param>
internal readonly struct CleanUp(ILogger logger, string what)
{
    internal void Do(Action step)
    {
        try
        {
            step();
        }
        catch (Exception e)
        {
            TransportLog.CleanUpFailed(logger, what, e);
        }
    }

    internal async Task DoAsync(Func<Task> step)
    {
        try
        {
            await step().ConfigureAwait(false);
        }
        catch (Exception e)
        {
            TransportLog.CleanUpFailed(logger, what, e);
        }
    }
}
