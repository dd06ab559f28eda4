namespace Kestrel.Transport.Xdp.Internal.Connections;

/// <summary>
/// How far a connection has come on the way to its end, and why it ends. Written by both its sides. A mutable struct:
/// never copied.
/// </summary>
internal struct ConnectionEnd
{
    private TaskCompletionSource? _awaited;
    private Exception? _reason;
    private int _milestones;

    /// <summary>
    /// The application has asked for the token of ConnectionClosed, or has set it. Under the connection's lock.
    /// </summary>
    internal bool TokenIsGiven;

    [Flags]
    private enum Milestones
    {
        None = 0,

        /// <summary>The callbacks of ConnectionClosed are scheduled.</summary>
        ClosedRaised = 1,

        /// <summary>They have run.</summary>
        CallbacksRun = 2,

        /// <summary>The stack has all output.</summary>
        OutputTaken = 4,

        All = CallbacksRun | OutputTaken,
    }

    /// <summary>What pending and later reads see; null while nothing has ended the connection.</summary>
    internal readonly Exception? Reason => Volatile.Read(in _reason);

    internal readonly bool IsClosedRaised => Has(Milestones.ClosedRaised);

    /// <summary>The first reason counts: true for the caller who gave it.</summary>
    internal bool TryGiveReason(Exception reason) => Interlocked.CompareExchange(ref _reason, reason, null) is null;

    /// <summary>True for the one caller who is to schedule the callbacks.</summary>
    internal bool TryRaiseClosed() => TrySet(Milestones.ClosedRaised);

    internal void CallbacksHaveRun() => Reach(Milestones.CallbacksRun);

    internal void OutputIsTaken() => Reach(Milestones.OutputTaken);

    /// <summary>Completes once the callbacks have run and the stack has all output.</summary>
    internal Task WaitAsync()
    {
        if (Has(Milestones.All))
            return Task.CompletedTask;
        // Published before the milestones are looked at again, and read after they are written: one side sees the
        // other.
        TaskCompletionSource awaited = Volatile.Read(ref _awaited)
            ?? Interlocked.CompareExchange(
                ref _awaited, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously), null)
            ?? _awaited;
        return Has(Milestones.All) ? Task.CompletedTask : awaited.Task;
    }

    private readonly bool Has(Milestones milestones) =>
        ((Milestones)Volatile.Read(in _milestones) & milestones) == milestones;

    private bool TrySet(Milestones milestone) =>
        ((Milestones)Interlocked.Or(ref _milestones, (int)milestone) & milestone) == Milestones.None;

    private void Reach(Milestones milestone)
    {
        if (TrySet(milestone) && Has(Milestones.All))
            Volatile.Read(ref _awaited)?.TrySetResult();
    }
}
