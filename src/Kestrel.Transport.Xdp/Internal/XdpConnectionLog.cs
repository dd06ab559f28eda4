using Microsoft.Extensions.Logging;

namespace Kestrel.Transport.Xdp.Internal;

/// <summary>What connections log, with the socket transport's event ids. Nothing that a peer can cause is above Debug.</summary>
internal static partial class XdpConnectionLog
{
    [LoggerMessage(4, LogLevel.Debug, @"Connection id ""{ConnectionId}"" paused.", EventName = "ConnectionPause")]
    public static partial void Pause(ILogger logger, string connectionId);

    [LoggerMessage(5, LogLevel.Debug, @"Connection id ""{ConnectionId}"" resumed.", EventName = "ConnectionResume")]
    public static partial void Resume(ILogger logger, string connectionId);

    [LoggerMessage(6, LogLevel.Debug, @"Connection id ""{ConnectionId}"" received FIN.", EventName = "ConnectionReadFin")]
    public static partial void ReadFin(ILogger logger, string connectionId);

    [LoggerMessage(7, LogLevel.Debug, @"Connection id ""{ConnectionId}"" sending FIN because: ""{Reason}""", EventName = "ConnectionWriteFin")]
    public static partial void WriteFin(ILogger logger, string connectionId, string reason);

    [LoggerMessage(8, LogLevel.Debug, @"Connection id ""{ConnectionId}"" sending RST because: ""{Reason}""", EventName = "ConnectionWriteRst")]
    public static partial void WriteRst(ILogger logger, string connectionId, string reason);

    [LoggerMessage(14, LogLevel.Debug, @"Connection id ""{ConnectionId}"" communication error.", EventName = "ConnectionError")]
    public static partial void Error(ILogger logger, Exception exception, string connectionId);

    [LoggerMessage(19, LogLevel.Debug, @"Connection id ""{ConnectionId}"" reset.", EventName = "ConnectionReset")]
    public static partial void Reset(ILogger logger, string connectionId);

    [LoggerMessage(0, LogLevel.Error, @"Connection id ""{ConnectionId}"": a callback of ConnectionClosed failed.", EventName = "ConnectionClosedCallbackFailed")]
    public static partial void ClosedCallbackFailed(ILogger logger, Exception exception, string connectionId);
}
