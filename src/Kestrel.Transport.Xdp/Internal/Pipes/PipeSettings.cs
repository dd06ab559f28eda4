namespace Kestrel.Transport.Xdp.Internal.Pipes;

/// <summary>What the pipes of one queue and listener have in common.</summary>
/// <param name="Memory">Where their bytes lie.</param>
internal record PipeSettings(PipeMemory Memory)
{
    /// <summary>Unexamined bytes at which Input is paused; null or 0 is without limit.</summary>
    public long? MaxReadBufferSize { get; init; } = 1024 * 1024;

    /// <summary>Flushed and unsent bytes at which flushes wait; null or 0 is without limit.</summary>
    public long? MaxWriteBufferSize { get; init; } = 64 * 1024;

    public long PauseInputAt => MaxReadBufferSize is > 0 and long max ? max : long.MaxValue;

    public long ResumeInputBelow => Math.Max(1, PauseInputAt / 2);

    public long PauseOutputAt => MaxWriteBufferSize is > 0 and long max ? max : long.MaxValue;

    public long ResumeOutputBelow => Math.Max(1, PauseOutputAt / 2);

    /// <summary>Let writers write into UMEM frames; otherwise they write into heap blocks always.</summary>
    public bool UseFrames { get; init; } = true;

    /// <summary>
    /// Received frames that a connection's reader may hold. Beyond it, payload is copied to heap blocks.
    /// </summary>
    public int ReceiveFrames { get; init; } = 64;

    /// <summary>
    /// Frames that a connection's unacknowledged output may occupy. Beyond it, writers write into heap blocks.
    /// </summary>
    public int TransmitFrames { get; init; } = 64;

    /// <summary>
    /// Examined bytes that are worth waking the queue for. It needs to know of them while memory is short. Fewer it
    /// learns of when it visits the connection for another reason.
    /// </summary>
    public int WindowUpdateBytes { get; init; } = 16 * 1024;
}
