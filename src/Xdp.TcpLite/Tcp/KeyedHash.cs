using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.CompilerServices;

namespace Xdp.TcpLite;

/// <summary>
/// What a key is derived for. Several uses share one secret, and none of them tells about the others.
/// </summary>
internal enum KeyPurpose : byte
{
    FlowTable = 1,
    InitialSequence,
    TimestampOffset,
    SynCookieBase,
    SynCookieCount,
}

/// <summary>
/// SipHash (Aumasson and Bernstein, 2012) under a key of 128 bits. Without the key nobody can choose inputs that
/// collide.
/// </summary>
internal readonly struct KeyedHash
{
    internal const int KeyLength = 16;

    private readonly ulong _k0;
    private readonly ulong _k1;

    /// <param name="key">16 bytes.</param>
    public KeyedHash(ReadOnlySpan<byte> key)
    {
        _k0 = BinaryPrimitives.ReadUInt64LittleEndian(key);
        _k1 = BinaryPrimitives.ReadUInt64LittleEndian(key[8..]);
    }

    private KeyedHash(ulong k0, ulong k1)
    {
        _k0 = k0;
        _k1 = k1;
    }

    /// <summary>
    /// A hash for one purpose, keyed by all of <paramref name="secret"/>, of which there are 16 bytes or more.
    /// </summary>
    public static KeyedHash Derive(ReadOnlySpan<byte> secret, KeyPurpose purpose)
    {
        var root = new KeyedHash(secret);
        ulong rest = root.Hash24(secret[KeyLength..]);
        return new KeyedHash(root.Hash24(rest, (ulong)purpose << 8), root.Hash24(rest, (ulong)purpose << 8 | 1));
    }

    /// <summary>SipHash-1-3, for tables: the addresses and ports, 36 bytes.</summary>
    // Inlined in a large method, the state would lie on the stack and not in registers.
    [MethodImpl(MethodImplOptions.NoInlining)]
    public ulong Hash(in FlowKey flow)
    {
        var state = new State(_k0, _k1);
        state.Compress1(flow.Local.High);
        state.Compress1(flow.Local.Low);
        state.Compress1(flow.Remote.High);
        state.Compress1(flow.Remote.Low);
        state.Compress1(Ports(flow) | 36UL << 56);
        return state.Finish3();
    }

    /// <summary>
    /// SipHash-2-4, for numbers that a peer sees: the addresses and ports, and <paramref name="extra"/>.
    /// </summary>
    public ulong Hash24(in FlowKey flow, ulong extra)
    {
        var state = new State(_k0, _k1);
        state.Compress2(flow.Local.High);
        state.Compress2(flow.Local.Low);
        state.Compress2(flow.Remote.High);
        state.Compress2(flow.Remote.Low);
        state.Compress2(extra);
        state.Compress2(Ports(flow) | 44UL << 56);
        return state.Finish4();
    }

    public ulong Hash13(ReadOnlySpan<byte> data)
    {
        var state = new State(_k0, _k1);
        ulong last = (ulong)data.Length << 56;
        for (; data.Length >= 8; data = data[8..])
            state.Compress1(BinaryPrimitives.ReadUInt64LittleEndian(data));
        state.Compress1(last | Tail(data));
        return state.Finish3();
    }

    public ulong Hash24(ReadOnlySpan<byte> data)
    {
        var state = new State(_k0, _k1);
        ulong last = (ulong)data.Length << 56;
        for (; data.Length >= 8; data = data[8..])
            state.Compress2(BinaryPrimitives.ReadUInt64LittleEndian(data));
        state.Compress2(last | Tail(data));
        return state.Finish4();
    }

    private ulong Hash24(ulong first, ulong second)
    {
        var state = new State(_k0, _k1);
        state.Compress2(first);
        state.Compress2(second);
        state.Compress2(16UL << 56);
        return state.Finish4();
    }

    private static ulong Ports(in FlowKey flow) => (uint)(flow.LocalPort << 16 | flow.RemotePort);

    private static ulong Tail(ReadOnlySpan<byte> data)
    {
        ulong tail = 0;
        for (int i = 0; i < data.Length; i++)
            tail |= (ulong)data[i] << (8 * i);
        return tail;
    }

    private struct State(ulong k0, ulong k1)
    {
        private ulong _v0 = k0 ^ 0x736f6d6570736575;
        private ulong _v1 = k1 ^ 0x646f72616e646f6d;
        private ulong _v2 = k0 ^ 0x6c7967656e657261;
        private ulong _v3 = k1 ^ 0x7465646279746573;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Compress1(ulong word)
        {
            _v3 ^= word;
            Round();
            _v0 ^= word;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Compress2(ulong word)
        {
            _v3 ^= word;
            Round();
            Round();
            _v0 ^= word;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public ulong Finish3()
        {
            _v2 ^= 0xff;
            Round();
            Round();
            Round();
            return _v0 ^ _v1 ^ _v2 ^ _v3;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public ulong Finish4()
        {
            _v2 ^= 0xff;
            Round();
            Round();
            Round();
            Round();
            return _v0 ^ _v1 ^ _v2 ^ _v3;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private void Round()
        {
            _v0 += _v1;
            _v2 += _v3;
            _v1 = BitOperations.RotateLeft(_v1, 13) ^ _v0;
            _v3 = BitOperations.RotateLeft(_v3, 16) ^ _v2;
            _v0 = BitOperations.RotateLeft(_v0, 32);
            _v2 += _v1;
            _v0 += _v3;
            _v1 = BitOperations.RotateLeft(_v1, 17) ^ _v2;
            _v3 = BitOperations.RotateLeft(_v3, 21) ^ _v0;
            _v2 = BitOperations.RotateLeft(_v2, 32);
        }
    }
}
