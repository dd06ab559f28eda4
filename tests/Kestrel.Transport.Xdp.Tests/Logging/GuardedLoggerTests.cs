using System.Net;
using Kestrel.Transport.Xdp.Internal.Logging;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Kestrel.Transport.Xdp.Tests.Logging;

public class GuardedLoggerTests
{
    [Fact]
    public void Log_ProviderSeesNamesValuesAndText()
    {
        var provider = new Recorder();
        var logger = new GuardedLogger(provider);

        TransportLog.Serving(logger, new IPEndPoint(IPAddress.Loopback, 80), "eth7", "native, copy, 1 queue", "");

        Assert.Contains("{Interface}", (string)provider.Values["{OriginalFormat}"]!);
        Assert.Equal("eth7", provider.Values["Interface"]);
        Assert.Contains("eth7", provider.Text);
        Assert.Contains("127.0.0.1:80", provider.Text);
        // Code for objects is there. For any other type the provider's would have to be compiled.
        Assert.Equal(typeof(object), provider.StateType);
    }

    private sealed class Recorder : ILogger
    {
        internal Dictionary<string, object?> Values { get; private set; } = [];

        internal string Text { get; private set; } = "";

        internal Type? StateType { get; private set; }

        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception,
            Func<TState, Exception?, string> formatter)
        {
            Values = Assert.IsAssignableFrom<IReadOnlyList<KeyValuePair<string, object?>>>(state).ToDictionary();
            Text = formatter(state, exception);
            StateType = typeof(TState);
        }
    }
}
