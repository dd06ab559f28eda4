using System.Runtime.InteropServices;

namespace Xdp.Sockets.Interop;

/// <summary>
/// bpf(2): its commands, and the parts of <c>union bpf_attr</c> that they read. Names are those of linux/bpf.h.
/// </summary>
internal static unsafe partial class BpfNative
{
    internal const int BPF_MAP_CREATE = 0, BPF_MAP_LOOKUP_ELEM = 1, BPF_MAP_UPDATE_ELEM = 2, BPF_MAP_DELETE_ELEM = 3,
        BPF_MAP_GET_NEXT_KEY = 4, BPF_PROG_LOAD = 5, BPF_PROG_TEST_RUN = 10, BPF_PROG_GET_FD_BY_ID = 13,
        BPF_OBJ_GET_INFO_BY_FD = 15, BPF_LINK_CREATE = 28, BPF_LINK_UPDATE = 29, BPF_LINK_DETACH = 34;

    internal const uint BPF_PROG_TYPE_SCHED_CLS = 3, BPF_PROG_TYPE_XDP = 6;
    internal const uint BPF_XDP = 37; // attach type
    internal const uint BPF_PSEUDO_MAP_FD = 1;
    internal const uint BPF_F_XDP_HAS_FRAGS = 1 << 5;
    internal const uint BPF_F_TEST_XDP_LIVE_FRAMES = 1 << 1;
    internal const uint XDP_FLAGS_SKB_MODE = 1 << 1, XDP_FLAGS_DRV_MODE = 1 << 2;
    internal const int BPF_OBJ_NAME_LEN = 16;

    /// <summary>The system call number of bpf(2); −1 on machine types for which it is not known here.</summary>
    private static readonly nint s_bpf = RuntimeInformation.ProcessArchitecture switch
    {
        Architecture.X64 => 321,
        Architecture.Arm64 or Architecture.RiscV64 or Architecture.LoongArch64 => 280,
        _ => -1,
    };

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint Syscall(nint number, nint command, void* attributes, nint size);

    [LibraryImport("libc", EntryPoint = "close")]
    internal static partial int Close(int fd);

    /// <returns>What the call returned (a descriptor or 0), or the negative errno.</returns>
    internal static int Bpf<T>(int command, ref T attributes) where T : unmanaged
    {
        if (s_bpf < 0)
            return -ErrnoNames.ENOSYS;
        fixed (T* pointer = &attributes)
        {
            nint result = Syscall(s_bpf, command, pointer, sizeof(T));
            return result < 0 ? -Marshal.GetLastPInvokeError() : (int)result;
        }
    }

    /// <summary>Copies a name as the kernel takes it: at most 15 characters of [A-Za-z0-9_.], and a zero.</summary>
    internal static void CopyName(byte* destination, string name)
    {
        int length = Math.Min(name.Length, BPF_OBJ_NAME_LEN - 1);
        for (int i = 0; i < length; i++)
            destination[i] = (byte)(char.IsAsciiLetterOrDigit(name[i]) || name[i] is '_' or '.' ? name[i] : '_');
        destination[length] = 0;
    }

    internal struct MapCreate
    {
        internal uint MapType, KeySize, ValueSize, MaxEntries, MapFlags, InnerMapFd, NumaNode;
        internal fixed byte Name[BPF_OBJ_NAME_LEN];
    }

    internal struct MapElement
    {
        internal uint MapFd;
        internal void* Key;
        internal void* ValueOrNextKey;
        internal ulong Flags;
    }

    internal struct ProgLoad
    {
        internal uint ProgType, InstructionCount;
        internal void* Instructions;
        internal void* License;
        internal uint LogLevel, LogSize;
        internal void* LogBuffer;
        internal uint KernelVersion, ProgFlags;
        internal fixed byte Name[BPF_OBJ_NAME_LEN];
        internal uint ProgIfindex, ExpectedAttachType;
    }

    internal struct ProgTestRun
    {
        internal uint ProgFd, ReturnValue, DataSizeIn, DataSizeOut;
        internal void* DataIn;
        internal void* DataOut;
        internal uint Repeat, Duration, ContextSizeIn, ContextSizeOut;
        internal void* ContextIn;
        internal void* ContextOut;
        internal uint Flags, Cpu, BatchSize;
    }

    /// <summary>The context of an XDP program: <c>struct xdp_md</c>.</summary>
    internal struct XdpMd
    {
        internal uint Data, DataEnd, DataMeta, IngressIfindex, RxQueueIndex, EgressIfindex;
    }

    internal struct GetFdById
    {
        internal uint Id, NextId, OpenFlags;
    }

    internal struct GetInfo
    {
        internal uint Fd, InfoLength;
        internal void* Info;
    }

    /// <summary>The first fields of <c>struct bpf_prog_info</c>; the kernel fills as much as it is asked for.</summary>
    internal struct ProgInfo
    {
        internal uint Type, Id;
        internal ulong Tag;
        internal uint JitedLength, XlatedLength;
        internal ulong JitedInstructions, XlatedInstructions, LoadTime;
        internal uint CreatedByUid, MapIdCount;
        internal ulong MapIds;
        internal fixed byte Name[BPF_OBJ_NAME_LEN];
    }

    internal struct LinkCreate
    {
        internal uint ProgFd, TargetIfindex, AttachType, Flags;
    }

    internal struct LinkUpdate
    {
        internal uint LinkFd, NewProgFd, Flags, OldProgFd;
    }

    internal struct LinkDetach
    {
        internal uint LinkFd;
    }

    /// <summary>The first fields of <c>struct bpf_link_info</c>, for a link of type XDP.</summary>
    internal struct LinkInfo
    {
        internal uint Type, Id, ProgId, Padding, XdpIfindex;
    }
}
