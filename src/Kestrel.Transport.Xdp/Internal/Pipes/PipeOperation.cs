using System.Runtime.CompilerServices;
using System.Threading.Tasks.Sources;

namespace Kestrel.Transport.Xdp.Internal.Pipes;

/// <summary>
/// The one asynchronous operation that a direction of a pipe can have: a read, or a flush. It is begun and claimed
/// under the connection's lock. Whoever claims it owes exactly one <see cref="Run"/>, outside the lock, on a thread
/// where application code may run. A mutable struct: never copied.
/// </summary>
internal struct PipeOperation
{
    private ManualResetValueTaskSourceCore<bool> _source;
    private Cancellation? _cancellation;
    private bool _claimable;
    private bool _cancelled;

    /// <summary>What an operation with a token needs more; kept, once one had a token.</summary>
    private sealed class Cancellation
    {
        public CancellationToken Token;
        public CancellationTokenRegistration Registration;
    }

    /// <summary>From <see cref="Begin"/> until its result has been taken.</summary>
    public bool InFlight { get; private set; }

    /// <summary>Cancelled by call, and no result has said so yet.</summary>
    public readonly bool Cancelled => _cancelled;

    /// <summary>
    /// Begins an operation that cannot complete now; the result is the token of its <see cref="ValueTask{T}"/>. Under
    /// the lock.
    /// </summary>
    /// <param name="token">Cancels it.</param>
    /// <param name="onCancelled">
    /// Called with <paramref name="state"/> when it does; calls <see cref="Cancel(CancellationToken)"/>.
    /// </param>
    /// <param name="state">The pipe end.</param>
    public short Begin(CancellationToken token, Action<object?, CancellationToken> onCancelled, object state)
    {
        _source.Reset();
        InFlight = true;
        _claimable = true;
        short version = _source.Version;
        if (token.CanBeCanceled)
        {
            Cancellation cancellation = _cancellation ??= new Cancellation();
            cancellation.Token = token;
            cancellation.Registration = token.UnsafeRegister(onCancelled, state);
        }
        return version;
    }

    /// <summary>True for the one caller who is to <see cref="Run"/> the operation. Under the lock.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryClaim()
    {
        bool claimed = _claimable;
        _claimable = false;
        return claimed;
    }

    /// <summary>
    /// Cancels this operation, or else the next. Under the lock; true when the caller is to <see cref="Run"/> it.
    /// </summary>
    public bool Cancel()
    {
        _cancelled = true;
        return TryClaim();
    }

    /// <summary>As <see cref="Cancel()"/>, unless the operation that the token was given to is over.</summary>
    public bool Cancel(CancellationToken token) => _claimable && _cancellation?.Token == token && Cancel();

    /// <summary>Takes note of a cancellation, which is then spent. Under the lock.</summary>
    public bool ObserveCancellation()
    {
        bool cancelled = _cancelled;
        _cancelled = false;
        return cancelled;
    }

    /// <summary>Completes the operation and runs what awaits it.</summary>
    public void Run() => _source.SetResult(true);

    /// <summary>
    /// The operation's awaiter takes the result. Under the lock; the result is the token it was begun with.
    /// </summary>
    public CancellationToken End(short version)
    {
        _source.GetResult(version);
        InFlight = false;
        if (_cancellation is not { } cancellation)
            return default;
        // Unregister does not wait for a callback that is under way, and may be waiting for the lock: it finds the
        // operation over.
        cancellation.Registration.Unregister();
        cancellation.Registration = default;
        CancellationToken token = cancellation.Token;
        cancellation.Token = default;
        return token;
    }

    public readonly ValueTaskSourceStatus GetStatus(short version) => Unsafe.AsRef(in _source).GetStatus(version);

    /// <summary>
    /// The execution context flows when flagged; synchronisation contexts are ignored, as by the socket transport's
    /// pipes.
    /// </summary>
    public void OnCompleted(
        Action<object?> continuation, object? state, short version, ValueTaskSourceOnCompletedFlags flags)
    {
        flags &= ~ValueTaskSourceOnCompletedFlags.UseSchedulingContext;
        _source.OnCompleted(continuation, state, version, flags);
    }
}
