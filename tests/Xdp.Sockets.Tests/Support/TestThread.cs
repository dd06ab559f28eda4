using System.Runtime.ExceptionServices;

namespace Xdp.Sockets.Tests.Support;

/// <summary>Runs code on a thread that nobody else will ever use, so that it may change namespaces and capabilities.</summary>
internal static class TestThread
{
    internal static void Run(Action action) => Run(() =>
    {
        action();
        return 0;
    });

    internal static T Run<T>(Func<T> function)
    {
        T result = default!;
        ExceptionDispatchInfo? failure = null;
        Thread thread = new(() =>
        {
            try
            {
                result = function();
            }
            catch (Exception e)
            {
                failure = ExceptionDispatchInfo.Capture(e);
            }
        });
        thread.Start();
        thread.Join();
        failure?.Throw();
        return result;
    }
}
