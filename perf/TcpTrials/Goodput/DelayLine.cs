using System.Buffers.Binary;
using System.CommandLine;
using System.Diagnostics;
using System.Text;
using TransportComparison;

namespace TcpTrials.Goodput;

/// <summary>
/// Makes the path long. The router sends all that it forwards to a tun device, from which each packet comes back after
/// the delay, in the same order. Packets are lost before they get here, at the router's ingress.
/// </summary>
internal static class DelayLine
{
    private const string Device = "delay0";
    private const int Table = 77;
    private const int SlotSize = 2048;

    // Packets that may be under way: 100 MB/s for 150 ms. What comes when all are taken is dropped, as by any router.
    private const int Slots = 16384;

    public static Command Create()
    {
        var delay = Trial.Option("--microseconds", "how long each packet is held", 10_000);
        var command = new Command("delay") { delay };
        command.Hidden = true;
        command.SetAction(parsed => Run(TimeSpan.FromMicroseconds(parsed.GetValue(delay))));
        return command;
    }

    public static async Task<LabProcess> Start(Lab lab, TimeSpan delay, CancellationToken cancellation)
    {
        var process = LabProcess.Start(lab.Command(
            "router", Trial.Self("delay", "--microseconds", $"{delay.TotalMicroseconds:0}")));
        await process.Line("ready", TimeSpan.FromSeconds(60), cancellation);
        return process;
    }

    private static int Run(TimeSpan delay)
    {
        int tun = Open();
        foreach (string command in (string[])[
            $"link set {Device} txqueuelen 20000 up",
            $"route add default dev {Device} table {Table}",
            $"rule add iif rtc0 lookup {Table}",
            $"rule add iif rts0 lookup {Table}"])
            Process.Start("ip", command.Split(' ')).WaitForExit();

        var line = new Line(tun, delay);
        var receiver = new Thread(line.Receive) { IsBackground = true };
        receiver.Start();
        Console.WriteLine("ready");
        line.Forward();
        return 0;
    }

    private static int Open()
    {
        int tun = Native.open("/dev/net/tun", Native.O_RDWR);
        byte[] request = new byte[40];
        Encoding.ASCII.GetBytes(Device, request);
        BinaryPrimitives.WriteInt16LittleEndian(request.AsSpan(16), Native.IFF_TUN | Native.IFF_NO_PI);
        return tun >= 0 && Native.ioctl(tun, Native.TUNSETIFF, request) >= 0
            ? tun
            : throw new MeasurementException("the tun device could not be made");
    }

    /// <summary>
    /// A ring of packets between two threads: one reads them and notes when they are due, the other writes them when
    /// they are.
    /// </summary>
    private sealed class Line(int tun, TimeSpan delay)
    {
        private readonly byte[] _memory = GC.AllocateArray<byte>(Slots * SlotSize, pinned: true);
        private readonly int[] _lengths = new int[Slots];
        private readonly long[] _dueAt = new long[Slots];
        private readonly long _delay = (long)(delay.TotalSeconds * Stopwatch.Frequency);
        private long _head;
        private long _tail;

        public void Receive()
        {
            while (true)
            {
                int slot = (int)(_tail % Slots);
                nint length = Native.read(tun, ref _memory[slot * SlotSize], SlotSize);
                if (length <= 0 || _tail - Volatile.Read(ref _head) >= Slots - 1)
                    continue;
                _lengths[slot] = (int)length;
                _dueAt[slot] = Stopwatch.GetTimestamp() + _delay;
                Volatile.Write(ref _tail, _tail + 1);
            }
        }

        public void Forward()
        {
            Native.PreciseSleep();
            while (true)
            {
                if (_head == Volatile.Read(ref _tail))
                {
                    // Nothing can be due sooner than this.
                    Sleep(_delay / 4);
                    continue;
                }

                int slot = (int)(_head % Slots);
                long early = _dueAt[slot] - Stopwatch.GetTimestamp();
                if (early > 0)
                {
                    Sleep(early);
                    continue;
                }

                _ = Native.write(tun, ref _memory[slot * SlotSize], _lengths[slot]);
                Volatile.Write(ref _head, _head + 1);
            }
        }

        private static void Sleep(long ticks)
        {
            long nanoseconds = (long)(ticks * (1e9 / Stopwatch.Frequency));
            var time = new Native.TimeSpec
            {
                Seconds = nanoseconds / 1_000_000_000,
                Nanoseconds = nanoseconds % 1_000_000_000,
            };
            _ = Native.nanosleep(ref time, 0);
        }
    }
}
