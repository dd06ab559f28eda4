using Xdp.Sockets.Interop;

namespace Xdp.Sockets;

/// <summary>
/// A system call of the set-up failed. The message names the call, its arguments and the errno, and says what to do
/// about it.
/// </summary>
public sealed class XdpException : IOException
{
    /// <param name="call">The system call in readable form, such as <c>bind(ifindex 3, queue 0, copy)</c>.</param>
    /// <param name="errno">The positive errno value.</param>
    /// <param name="hint">What the user can do, one sentence; null when nothing is known.</param>
    /// <param name="details">What is too long for a message; null when there is no more to tell.</param>
    public XdpException(string call, int errno, string? hint = null, string? details = null)
        : base(Describe(call, errno, hint))
    {
        Call = call;
        Errno = errno;
        Hint = hint;
        Details = details;
    }

    public string Call { get; }

    /// <summary>Positive errno value, e.g. 16 for EBUSY.</summary>
    public int Errno { get; }

    public string? Hint { get; }

    /// <summary>For whoever looks into it: of a refused program, the verifier's log.</summary>
    public string? Details { get; }

    private static string Describe(string call, int errno, string? hint)
    {
        string text = $"{call} failed: {ErrnoNames.Name(errno)} ({errno})";
        return hint is null ? text : $"{text}. {hint}";
    }
}
