using System.Runtime.ExceptionServices;
using Xdp.Sockets;

namespace Shared;

/// <summary>
/// Runs code on a thread that nobody else will ever use, so that the code may change what belongs to the thread: its
/// namespace, its capabilities, its system call filter. The caller waits, and gets the result or the exception.
/// </summary>
internal static class OwnThread
{
    internal static T Run<T>(Func<T> function)
    {
        T result = default!;
        ExceptionDispatchInfo? failure = null;
        var thread = new Thread(() =>
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

    internal static void Run(Action action) => Run(() =>
    {
        action();
        return 0;
    });

    /// <summary>In a network namespace. Sockets made there stay there, and work from any thread.</summary>
    /// <param name="path">Such as <c>/run/netns/blue</c>.</param>
    internal static T RunIn<T>(string path, Func<T> function) => Run(() =>
    {
        using (NetworkNamespace.Enter(path))
            return function();
    });
}
