namespace Kestrel.Transport.Xdp.Internal.Pipes;

/// <summary>
/// What the two pipe ends of a connection have in common, and whom they tell what the application did. The methods are
/// called outside the lock, on any thread.
/// </summary>
internal abstract class PipeOwner(PipeSettings settings)
{
    /// <summary>Guards both pipe ends.</summary>
    internal readonly Lock Lock = new();

    internal readonly PipeSettings Settings = settings;

    internal PipeMemory Memory => Settings.Memory;

    /// <summary>Flushed blocks wait for the stack.</summary>
    internal abstract void OnFlushed();

    /// <summary>Much was examined, or there is room for input again.</summary>
    internal abstract void OnExamined();

    /// <summary>The application reads no more.</summary>
    internal abstract void OnInputCompleted();

    /// <summary>The application writes no more: FIN follows what was flushed, or with an exception RST.</summary>
    internal abstract void OnOutputCompleted(Exception? exception);
}
