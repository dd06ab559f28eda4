using System.Globalization;
using Kestrel.Transport.Xdp.Internal.Queues;
using Xdp.Sockets;
using Xdp.Sockets.Net;
using Xunit;

namespace Kestrel.Transport.Xdp.Tests.Queues;

/// <summary>A packet's length says which run it belongs to: those in a row with the same length are one.</summary>
public sealed class SegmentRunsTests
{
    private readonly QueueCounters _counters = new();
    private readonly List<string> _log = [];
    private readonly Ring _ring;
    private readonly Socket _socket;
    private readonly SegmentRuns _runs;
    private int _sent;

    public SegmentRunsTests()
    {
        _ring = new Ring(_log);
        _socket = new Socket(_log);
        _runs = new SegmentRuns(_ring, _counters);
        _runs.Use(_socket);
    }

    [Theory]
    [InlineData("5 5 5 5", "run 5x4")]
    [InlineData("5 5 5", "ring 5 5 5")]
    [InlineData("1 2 5 5 5 5 5 3", "ring 1 2, empty, run 5x5, ring 3")]
    [InlineData("5 5 5 5 6 6 6 6", "run 5x4, run 6x4")]
    [InlineData("5 5 5 5 1 1 6 6 6 6", "run 5x4, ring 1 1, empty, run 6x4")]
    [InlineData("1 1 1 2 2 2", "ring 1 1 1 2 2 2")]
    public void Runs_GoAsOne_InTheirOrder(string packets, string expected)
    {
        int past = Send(packets);
        Assert.Equal(expected, string.Join(", ", _log));
        Assert.Equal(_counters.Offloaded, past);
        AssertEachFrameIsSomewhere();
    }

    [Fact]
    public void RingThatDoesNotEmpty_TakesTheRunAsWell()
    {
        _ring.Empties = false;
        Assert.Equal(0, Send("1 5 5 5 5 5"));
        Assert.Equal(["ring 1", "ring 5 5 5 5 5"], _log);
        AssertEachFrameIsSomewhere();
    }

    [Fact]
    public void Busy_TheRunGoesOnTheRing_AndTheNextAsOne()
    {
        _socket.Answer = GsoStatus.Busy;
        Assert.Equal(0, Send("5 5 5 5"));
        _socket.Answer = GsoStatus.Sent;
        Assert.Equal(4, Send("5 5 5 5"));
        Assert.Equal(["run 5x4", "ring 5 5 5 5", "empty", "run 5x4"], _log);
        Assert.Equal((4, 4), (_counters.OffloadRefused, _counters.Offloaded));
        AssertEachFrameIsSomewhere();
    }

    [Fact]
    public void Busy_WhatFollowsStaysBehind()
    {
        _socket.Answer = GsoStatus.Busy;
        Send("5 5 5 5 1 6 6 6 6");
        Assert.Equal(["run 5x4", "ring 5 5 5 5 1", "empty", "run 6x4", "ring 6 6 6 6"], _log);
    }

    [Fact]
    public void Refused_AllGoOnTheRing_AndTheSocketIsClosed()
    {
        _socket.Answer = GsoStatus.Refused;
        Send("5 5 5 5 6 6 6 6");
        Send("5 5 5 5");
        Assert.Equal(["run 5x4", "ring 5 5 5 5 6 6 6 6", "ring 5 5 5 5"], _log);
        Assert.True(_socket.IsDisposed);
        AssertEachFrameIsSomewhere();
    }

    /// <summary>A part of it may have arrived: sending it again would be a duplicate of that.</summary>
    [Fact]
    public void Dropped_IsNotSentAgain()
    {
        _socket.Answer = GsoStatus.Dropped;
        Assert.Equal(4, Send("5 5 5 5"));
        Assert.Equal(["run 5x4"], _log);
        Assert.Equal((4, 0), (_counters.OffloadDropped, _counters.Offloaded));
        AssertEachFrameIsSomewhere();
    }

    [Fact]
    public void WithoutASocket_AllGoOnTheRing()
    {
        _runs.Use(null);
        Assert.Equal(0, Send("5 5 5 5"));
        Assert.Equal(["ring 5 5 5 5"], _log);
        Assert.True(_socket.IsDisposed);
    }

    private int Send(string packets)
    {
        XdpDescriptor[] descriptors =
        [
            .. packets.Split(' ').Select(length => new XdpDescriptor
            {
                Address = (ulong)_sent++,
                Length = uint.Parse(length, CultureInfo.InvariantCulture),
            }),
        ];
        return _runs.Send(descriptors);
    }

    // Each is either completed or on the ring, once.
    private void AssertEachFrameIsSomewhere() =>
        Assert.Equal(Enumerable.Range(0, _sent).Select(i => (ulong)i), _ring.Frames.Concat(_ring.Home).Order());

    private sealed class Ring(List<string> log) : ITransmitRing
    {
        private bool _isEmpty = true;

        public bool Empties { get; set; } = true;

        public List<ulong> Frames { get; } = [];

        public List<ulong> Home { get; } = [];

        public void Completed(in XdpDescriptor packet) => Home.Add(packet.Address);

        public void Put(ReadOnlySpan<XdpDescriptor> packets)
        {
            if (packets.IsEmpty)
                return;
            foreach (XdpDescriptor packet in packets)
                Frames.Add(packet.Address);
            _isEmpty = false;
            log.Add("ring " + string.Join(' ', packets.ToArray().Select(packet => packet.Length)));
        }

        public bool TryEmpty()
        {
            if (_isEmpty || !Empties)
                return _isEmpty;
            log.Add("empty");
            return _isEmpty = true;
        }
    }

    private sealed class Socket(List<string> log) : IRunSocket
    {
        public GsoStatus Answer { get; set; } = GsoStatus.Sent;

        public bool IsDisposed { get; private set; }

        public int CountRun(ReadOnlySpan<XdpDescriptor> packets)
        {
            int count = 1;
            while (count < packets.Length && packets[count].Length == packets[0].Length)
                count++;
            return count;
        }

        public GsoStatus Send(ReadOnlySpan<XdpDescriptor> run)
        {
            Assert.False(IsDisposed);
            log.Add($"run {run[0].Length}x{run.Length}");
            return Answer;
        }

        public void Dispose() => IsDisposed = true;
    }
}
