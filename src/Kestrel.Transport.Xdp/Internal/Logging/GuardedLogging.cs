using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Internal.Logging;

/// <summary>
/// Makes loggers that never throw. A log provider is foreign code, and a line that is lost must not end a queue, a
/// start or a stop. Any thread.
/// </summary>
internal sealed class GuardedLoggerFactory(ILoggerFactory loggers) : ILoggerFactory
{
    public ILogger CreateLogger(string categoryName) => new GuardedLogger(loggers.CreateLogger(categoryName));

    public void AddProvider(ILoggerProvider provider) => loggers.AddProvider(provider);

    /// <summary>The factory is whose it was.</summary>
    public void Dispose()
    {
    }
}

/// <summary>A logger whose exceptions end with it.</summary>
internal sealed class GuardedLogger(ILogger logger) : ILogger
{
    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull
    {
        try
        {
            return logger.BeginScope(state);
        }
        catch (Exception)
        {
            return null;
        }
    }

    public bool IsEnabled(LogLevel logLevel)
    {
        try
        {
            return logger.IsEnabled(logLevel);
        }
        catch (Exception)
        {
            return false;
        }
    }

    public void Log<TState>(
        LogLevel logLevel, EventId eventId, TState state, Exception? exception,
        Func<TState, Exception?, string> formatter)
    {
        try
        {
            // As an object, for which providers have code. For each kind of state theirs would have to be compiled.
            logger.Log<object?>(logLevel, eventId, state, exception, (s, e) => formatter((TState)s!, e));
        }
        catch (Exception)
        {
            // There is nobody to tell.
        }
    }
}
