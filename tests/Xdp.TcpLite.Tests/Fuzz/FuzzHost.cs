using System.Reflection;
using Xdp.TcpLite.Tests.Hostile;

namespace Xdp.TcpLite.Tests.Fuzz;

/// <summary>
/// A step of a fuzzing run broke an invariant. Says how to see it again, and what the connections looked like.
/// </summary>
internal sealed class FuzzException(
    string kind, int seed, long step, Exception inner, params TcpConnection?[] connections)
    : Exception($"{kind}, seed {seed}, step {step}: {inner.GetType().Name}: {inner.Message}\n"
        + $"replay: dotnet run -c Release --project tests/Xdp.TcpLite.Fuzz -- {kind} --seed {seed} --worlds 1\n"
        + string.Join("\n", connections.Where(c => c is not null).Select(Describe!)), inner)
{
    private static string Describe(TcpConnection connection) =>
        string.Join(' ', Fields("", connection, typeof(TcpConnection)));

    /// <summary>The values of an object and of the parts it is made of.</summary>
    private static IEnumerable<string> Fields(string path, object? owner, Type type)
    {
        const BindingFlags all = BindingFlags.Instance | BindingFlags.NonPublic | BindingFlags.Public;
        foreach (FieldInfo field in type.GetFields(all))
        {
            string name = path + field.Name.Replace("k__BackingField", "", StringComparison.Ordinal);
            object? value = owner is null ? null : field.GetValue(owner);
            Type kind = Nullable.GetUnderlyingType(field.FieldType) ?? field.FieldType;
            bool isNumber = kind.IsPrimitive || kind.IsEnum || kind == typeof(Instant) || kind == typeof(SeqNumber);
            if (isNumber || value is null)
                yield return $"{name}={value}";
            else if (s_parts.Contains(kind))
                foreach (string part in Fields(name + ".", value, kind))
                    yield return part;
        }
    }

    private static readonly Type[] s_parts =
    [
        typeof(Sender), typeof(Receiver), typeof(AckPolicy), typeof(ReceiveBuffer), typeof(Flight),
        typeof(LossRecovery), typeof(Scoreboard), typeof(Rack), typeof(TailLossProbe), typeof(RetransmissionTimer),
        typeof(PersistTimer), typeof(CwndUse), typeof(RateReduction), typeof(SpuriousLoss), typeof(ActiveOpen),
        typeof(KeepAliveTimer), typeof(PathMtu), typeof(Ecn), typeof(Timestamps), typeof(RttEstimator),
        typeof(SegmentOutput),
    ];
}

/// <summary>
/// A stack with its driver, for fuzzing. A frame is hashed when it is submitted and checked when it is completed, and
/// completions come late.
/// </summary>
internal sealed class FuzzHost
{
    private const int FrameSize = 2048;
    private const int Headroom = 256;

    // Ethernet with two tags, IPv6, TCP with all options.
    private const int MostHeaders = 22 + 40 + 60;

    private readonly Queue<(TxPacket Packet, ulong Sum)> _inKernel = new();
    private readonly TxPacket[] _packets = new TxPacket[16];
    private readonly bool _cutsPackets;

    internal FuzzHost(IpAddr address, ulong mac, TcpStackOptions options, byte secret, Instant now, int frames = 256)
    {
        Address = address;
        Mac = mac;
        _cutsPackets = secret % 4 == 1;
        Frames = new FramePool(new byte[frames * FrameSize], FrameSize, frames, frames / 8) { Poison = true };
        // In some worlds memory is short.
        Blocks = new BlockPool(secret % 4 == 0 ? 64 << 10 : 4 << 20) { Poison = true };
        byte[] key = new byte[32];
        Array.Fill(key, secret);
        Stack = new TcpStack(options, Frames, Blocks, key, now);
    }

    internal IpAddr Address { get; }
    internal ulong Mac { get; }
    internal FramePool Frames { get; }
    internal BlockPool Blocks { get; }
    internal TcpStack Stack { get; }
    internal int CompletionLag { get; set; }

    /// <summary>Delivers a frame, unless there is none free to put it in.</summary>
    internal void Deliver(ReadOnlySpan<byte> packet, Instant now)
    {
        packet = packet[..Math.Min(packet.Length, FrameSize - Headroom)];
        if (_cutsPackets && packet.Length > MostHeaders)
        {
            DeliverChain(packet, now);
            return;
        }
        if (Frames.TryTakeForFill() is not { } frame)
            return;
        packet.CopyTo(frame.Span[Headroom..]);
        Frames.Received(frame);
        ReceiveResult result = Stack.Receive(frame, Headroom, packet.Length, now, out _);
        if (result == ReceiveResult.Kept)
            return;
        if (result == ReceiveResult.UnknownFlow)
            Stack.Refuse(frame, Headroom, packet.Length, now);
        frame.Return();
    }

    // Anywhere behind the headers of a sound segment. Where, is a matter of what is in it.
    private void DeliverChain(ReadOnlySpan<byte> packet, Instant now)
    {
        int first = MostHeaders + (int)(Checksum.Sum(packet) % (ulong)(packet.Length - MostHeaders));
        if (Chains.Cut(packet, Frames, first, others: Math.Max(first / 2, 40)) is not { } chain)
            return;
        if (Stack.ReceiveChain(ref chain, now, out _) == ReceiveResult.UnknownFlow)
            Stack.RefuseChain(chain, now);
        chain.ReturnAll();
    }

    /// <summary>Takes all that the stack wants to send; returns the number of segments.</summary>
    internal int Emit(Instant now, Action<ReadOnlySpan<byte>>? send, int limit)
    {
        int total = 0;
        int count;
        do
        {
            count = Stack.Emit(_packets, now);
            foreach (ref TxPacket packet in _packets.AsSpan(0, count))
            {
                ReadOnlySpan<byte> bytes = packet.Frame.Span.Slice(packet.Start, packet.Length);
                _inKernel.Enqueue((packet, Checksum.Sum(bytes)));
                send?.Invoke(bytes);
            }
            total += count;
            if (total > limit)
                throw new InvariantException($"{total} segments sent at one time, where {limit} would be many");
            Complete(CompletionLag);
        }
        while (count == _packets.Length);
        Blocks.Trim(now);
        if (Stack.NextDeadline <= now)
            throw new InvariantException(
                $"there is nothing to send, and yet the next deadline is {Stack.NextDeadline}, now is {now}");
        return total;
    }

    internal void Complete(int leave)
    {
        while (_inKernel.Count > leave)
        {
            (TxPacket packet, ulong sum) = _inKernel.Dequeue();
            if (Checksum.Sum(packet.Frame.Span.Slice(packet.Start, packet.Length)) != sum)
                throw new InvariantException("a frame changed while it was in the kernel");
            Frames.Completed(packet.Frame);
        }
    }

    /// <summary>Nothing is left of any connection, and no memory is out.</summary>
    internal void CheckEmpty()
    {
        Complete(0);
        if ((Stack.ConnectionCount, Stack.HalfOpenCount, Stack.TimeWaitCount) != (0, 0, 0))
            throw new InvariantException(
                $"{Stack.ConnectionCount} connections, {Stack.HalfOpenCount} half-open and "
                + $"{Stack.TimeWaitCount} in TIME-WAIT are left");
        if (Frames.FreeCount != Frames.FrameCount || Blocks.InUse != 0)
            throw new InvariantException(
                $"{Frames.FrameCount - Frames.FreeCount} frames and {Blocks.InUse} blocks have not come home");
        if (Frames.KeptAhead != 0 || Frames.ApplicationCount != 0)
            throw new InvariantException(
                $"{Frames.KeptAhead} frames count as kept ahead, {Frames.ApplicationCount} as the application's, "
                + "and all are free");
        if (Stack.NextDeadline != Instant.Never)
            Invariants.CheckFrames(Frames);
    }
}

/// <summary>
/// The ends of connections, for a host that takes the bytes that are left only where somebody may want them. At every
/// other end the stack has to return them, or <see cref="FuzzHost.CheckEmpty"/> finds them missing.
/// </summary>
internal static class Endings
{
    internal static void Abort(TcpConnection connection)
    {
        connection.Abort();
        if (connection.ReadableBytes != 0)
            throw new InvariantException($"{connection.ReadableBytes} bytes are left to read after an abort");
    }

    internal static void TakeEvents(TcpConnection connection)
    {
        TcpEvents events = connection.TakeEvents();
        if ((events & (TcpEvents.Reset | TcpEvents.TimedOut)) != 0 && connection.ReadableBytes != 0)
            throw new InvariantException($"{connection.ReadableBytes} bytes are left to read after {events}");
        if ((events & TcpEvents.Closed) != 0)
            connection.TakeReceived(long.MaxValue).ReturnAll();
    }
}
