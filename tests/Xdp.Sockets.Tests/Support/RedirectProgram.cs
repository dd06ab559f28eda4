using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Xdp.Sockets.Tests.Support;

/// <summary>
/// The smallest XDP program there is to receive with, assembled by hand: <c>return bpf_redirect_map(&amp;xsks, queue,
/// XDP_PASS)</c>.
/// </summary>
internal sealed class RedirectProgram : IDisposable
{
    private const int BPF_MAP_CREATE = 0, BPF_MAP_UPDATE_ELEM = 2, BPF_PROG_LOAD = 5, BPF_LINK_CREATE = 28;
    private const int BPF_MAP_TYPE_XSKMAP = 17, BPF_PROG_TYPE_XDP = 6, BPF_XDP = 37;

    private readonly int _map, _program, _link;

    internal RedirectProgram(Xsk xsk)
    {
        _map = Bpf(BPF_MAP_CREATE, [BPF_MAP_TYPE_XSKMAP, 4, 4, 64]);

        byte[] code =
        [
            0x61, 0x12, 16, 0, 0, 0, 0, 0,                  // r2 = ctx->rx_queue_index
            0x18, 0x11, 0, 0, 0, 0, 0, 0,                   // r1 = map (64-bit immediate, two slots)
            0, 0, 0, 0, 0, 0, 0, 0,
            0xb7, 0x03, 0, 0, 2, 0, 0, 0,                   // r3 = XDP_PASS
            0x85, 0, 0, 0, 51, 0, 0, 0,                     // call bpf_redirect_map
            0x95, 0, 0, 0, 0, 0, 0, 0,                      // exit
        ];
        BinaryPrimitives.WriteInt32LittleEndian(code.AsSpan(12), _map);
        using Pinned instructions = new(code);
        using Pinned license = new("GPL\0"u8);
        int[] load = [BPF_PROG_TYPE_XDP, code.Length / 8, 0, 0, 0, 0];
        SetPointer(load, 2, instructions);
        SetPointer(load, 4, license);
        _program = Bpf(BPF_PROG_LOAD, load);

        using Pinned key = new(BitConverter.GetBytes(xsk.QueueId));
        using Pinned value = new(BitConverter.GetBytes(xsk.FileDescriptor));
        int[] update = [_map, 0, 0, 0, 0, 0, 0, 0];
        SetPointer(update, 2, key);
        SetPointer(update, 4, value);
        Bpf(BPF_MAP_UPDATE_ELEM, update);

        _link = Bpf(BPF_LINK_CREATE, [_program, xsk.InterfaceIndex, BPF_XDP, 0]);
    }

    public void Dispose()
    {
        TestNative.close(_link);
        TestNative.close(_program);
        TestNative.close(_map);
    }

    private static void SetPointer(int[] attributes, int word, Pinned memory)
    {
        attributes[word] = (int)memory.Address;
        attributes[word + 1] = (int)(memory.Address >> 32);
    }

    private static int Bpf(int command, int[] attributes)
    {
        byte[] bytes = new byte[128];
        Buffer.BlockCopy(attributes, 0, bytes, 0, attributes.Length * sizeof(int));
        using Pinned pinned = new(bytes);
        nint number = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 280 : 321;
        return (int)TestNative.Check(
            TestNative.syscall(number, command, pinned.Address, bytes.Length), $"bpf({command})");
    }

    private sealed class Pinned : IDisposable
    {
        private GCHandle _handle;

        internal Pinned(ReadOnlySpan<byte> bytes) => _handle = GCHandle.Alloc(bytes.ToArray(), GCHandleType.Pinned);

        internal nint Address => _handle.AddrOfPinnedObject();

        public void Dispose() => _handle.Free();
    }
}
