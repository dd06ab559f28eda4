namespace Xdp.TcpLite;

/// <summary>
/// An address and port that accepts connections. Owns the counts of what waits there, and their bound.
/// </summary>
/// <param name="owner">Given to each accepted connection as <see cref="TcpConnection.Owner"/>.</param>
/// <param name="backlog">The most half-open records, and the most connections that wait to be accepted.</param>
/// <param name="hasRoom">Has the host room for one more? Null: always.</param>
/// <param name="options">Its connections'; null: the stack's.</param>
internal sealed class Listener(
    object? owner, int backlog, Func<bool>? hasRoom = null, TcpStackOptions? options = null)
{
    internal object? Owner => owner;

    internal TcpStackOptions? Options { get; private set; } = options;

    /// <summary>It accepts nothing any more. Its half-open records end when they are next looked at.</summary>
    internal bool IsClosed { get; private set; }

    internal int HalfOpenCount { get; private set; }

    /// <summary>Its connections in the <see cref="AcceptQueue"/>.</summary>
    internal int WaitingCount { get; private set; }

    internal bool HasRoomForHalfOpen => HalfOpenCount < backlog;

    internal bool HasRoomForWaiting => WaitingCount < backlog && hasRoom?.Invoke() != false;

    internal void Close() => IsClosed = true;

    internal void ChangeMtu(int mtu, int? receiveMtu) =>
        Options = Options is { } own ? own with { Mtu = mtu, ReceiveMtu = receiveMtu } : null;

    internal void HalfOpenAdded() => HalfOpenCount++;

    internal void HalfOpenRemoved() => HalfOpenCount--;

    internal void WaitingAdded() => WaitingCount++;

    internal void WaitingRemoved() => WaitingCount--;
}
