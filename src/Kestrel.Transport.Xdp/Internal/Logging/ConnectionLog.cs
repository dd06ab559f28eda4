using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Internal.Logging;

/// <summary>
/// What connections log, with the socket transport's event ids. Nothing that a peer can cause is above Debug.
/// </summary>
internal static partial class ConnectionLog
{
    [LoggerMessage(4, LogLevel.Debug, @"Connection id ""{ConnectionId}"" paused.", EventName = "ConnectionPause")]
    public static partial void Pause(ILogger logger, string connectionId);

    [LoggerMessage(5, LogLevel.Debug, @"Connection id ""{ConnectionId}"" resumed.", EventName = "ConnectionResume")]
    public static partial void Resume(ILogger logger, string connectionId);

    [LoggerMessage(
        EventId = 6, Level = LogLevel.Debug, EventName = "ConnectionReadFin",
        Message = @"Connection id ""{ConnectionId}"" received FIN.")]
    public static partial void ReadFin(ILogger logger, string connectionId);

    [LoggerMessage(
        EventId = 7, Level = LogLevel.Debug, EventName = "ConnectionWriteFin",
        Message = @"Connection id ""{ConnectionId}"" sending FIN because: ""{Reason}""")]
    public static partial void WriteFin(ILogger logger, string connectionId, string reason);

    [LoggerMessage(
        EventId = 8, Level = LogLevel.Debug, EventName = "ConnectionWriteRst",
        Message = @"Connection id ""{ConnectionId}"" sending RST because: ""{Reason}""")]
    public static partial void WriteRst(ILogger logger, string connectionId, string reason);

    [LoggerMessage(
        EventId = 14, Level = LogLevel.Debug, EventName = "ConnectionError",
        Message = @"Connection id ""{ConnectionId}"" communication error.")]
    public static partial void Error(ILogger logger, Exception exception, string connectionId);

    [LoggerMessage(19, LogLevel.Debug, @"Connection id ""{ConnectionId}"" reset.", EventName = "ConnectionReset")]
    public static partial void Reset(ILogger logger, string connectionId);

    [LoggerMessage(
        EventId = 0, Level = LogLevel.Error, EventName = "ConnectionClosedCallbackFailed",
        Message = @"Connection id ""{ConnectionId}"": a callback of ConnectionClosed failed.")]
    public static partial void ClosedCallbackFailed(ILogger logger, Exception exception, string connectionId);

    [LoggerMessage(
        EventId = 1, Level = LogLevel.Error, EventName = "ConnectionContinuationFailed",
        Message = @"Connection id ""{ConnectionId}"" is ended: what awaited its pipes failed.")]
    public static partial void ContinuationFailed(ILogger logger, Exception exception, string connectionId);
}
