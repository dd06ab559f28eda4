using System.Buffers.Binary;
using System.CommandLine;
using System.Diagnostics;
using System.Net;
using System.Net.NetworkInformation;
using System.Runtime.InteropServices;
using TransportComparison;

namespace TcpTrials.Flood;

/// <summary>Sends SYNs from spoofed addresses at a given rate, until it is ended.</summary>
internal static class SynGenerator
{
    private const int Batch = 64;
    private const int EthernetLength = 14;
    private const int FrameLength = EthernetLength + SynPacket.Length;

    public static Command Create()
    {
        var device = new Option<string>("--device") { Required = true };
        var target = new Option<string>("--target") { Required = true };
        var mac = new Option<string>("--mac") { Required = true };
        var port = Trial.Option("--port", "target port", 8080);
        var rate = Trial.Option("--rate", "SYNs a second", 10_000);
        var command = new Command("syn-generator") { device, target, mac, port, rate };
        command.Hidden = true;
        command.SetAction((parsed, cancellation) => Task.Run(
            () => Run(
                parsed.GetRequiredValue(device),
                new IPEndPoint(IPAddress.Parse(parsed.GetRequiredValue(target)), parsed.GetValue(port)),
                PhysicalAddress.Parse(parsed.GetRequiredValue(mac).Replace(':', '-').ToUpperInvariant()),
                parsed.GetValue(rate),
                cancellation),
            CancellationToken.None));
        return command;
    }

    private static int Run(
        string device, IPEndPoint target, PhysicalAddress mac, int rate, CancellationToken cancellation)
    {
        int socket = Open(device);
        byte[] frames = GC.AllocateArray<byte>(Batch * FrameLength, pinned: true);
        nint messages = Messages(frames);
        var random = new Random(1);
        var clock = Stopwatch.StartNew();
        Native.PreciseSleep();
        Console.WriteLine("ready");
        for (long sent = 0; !cancellation.IsCancellationRequested;)
        {
            if (clock.Elapsed.TotalSeconds * rate < sent)
            {
                Thread.Sleep(1);
                continue;
            }

            for (int i = 0; i < Batch; i++)
                Write(frames.AsSpan(i * FrameLength, FrameLength), target, mac, random);
            int count = Native.sendmmsg(socket, messages, Batch, 0);
            sent += Math.Max(count, 0);
            // When this machine cannot keep up, what was missed is not sent in a burst later.
            sent = Math.Max(sent, (long)(clock.Elapsed.TotalSeconds * rate) - rate / 10);
        }

        return 0;
    }

    private static int Open(string device)
    {
        int socket = Native.socket(Native.AF_PACKET, Native.SOCK_RAW, 0);
        byte[] address = new byte[20]; // struct sockaddr_ll
        BinaryPrimitives.WriteUInt16LittleEndian(address, Native.AF_PACKET);
        int index = int.Parse(File.ReadAllText($"/sys/class/net/{device}/ifindex"));
        BinaryPrimitives.WriteInt32LittleEndian(address.AsSpan(4), index);
        return socket >= 0 && Native.bind(socket, address, address.Length) == 0
            ? socket
            : throw new MeasurementException($"no packet socket on {device}");
    }

    /// <returns>An array of <c>struct mmsghdr</c>, one for each frame.</returns>
    private static nint Messages(byte[] frames)
    {
        const int messageSize = 64;
        const int vectorSize = 16;
        nint memory = Marshal.AllocHGlobal(Batch * (messageSize + vectorSize));
        for (int i = 0; i < Batch * (messageSize + vectorSize); i += sizeof(long))
            Marshal.WriteInt64(memory, i, 0);
        for (int i = 0; i < Batch; i++)
        {
            nint vector = memory + Batch * messageSize + i * vectorSize;
            Marshal.WriteIntPtr(vector, Marshal.UnsafeAddrOfPinnedArrayElement(frames, i * FrameLength));
            Marshal.WriteInt64(vector, 8, FrameLength);
            Marshal.WriteIntPtr(memory, i * messageSize + 16, vector);
            Marshal.WriteInt64(memory, i * messageSize + 24, 1);
        }

        return memory;
    }

    private static void Write(Span<byte> frame, IPEndPoint target, PhysicalAddress mac, Random random)
    {
        mac.GetAddressBytes().CopyTo(frame);
        frame[6] = 2;
        BinaryPrimitives.WriteUInt16BigEndian(frame[12..], 0x0800);
        SynPacket.Write(frame[EthernetLength..], target, random);
    }
}
