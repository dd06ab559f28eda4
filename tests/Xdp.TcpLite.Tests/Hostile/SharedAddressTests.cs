namespace Xdp.TcpLite.Tests.Hostile;

/// <summary>
/// Hosts behind one address, as a NAT shows them. They have clocks and sequence numbers of their own, and few ports
/// between them: soon each uses a port that another has left in TIME-WAIT here.
/// </summary>
public class SharedAddressTests
{
    private const int Ports = 8;
    private const int Rounds = 15;

    /// <summary>A client sends its SYN again after a second, and after two more.</summary>
    private static readonly TimeSpan s_mostPatience = TimeSpan.FromSeconds(3);

    private readonly Rig _rig = new();

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void TwoClientsOnAFewPorts_AllGetThrough(bool isIPv6, bool timestamps)
    {
        int refused = 0;
        for (int i = 0; i < 2 * Ports * Rounds; i++)
        {
            // The second client's numbers and clock are behind those of the first.
            bool isSecond = i % 2 == 1;
            uint clock = (uint)(_rig.Now.Ticks / TimeSpan.TicksPerMillisecond);
            uint iss = (isSecond ? 1_000u : 900_000_000) + 1000 * (uint)i;
            FlowKey any = isIPv6 ? SegmentBuilder.FlowV6 : SegmentBuilder.FlowV4;
            var peer = new Peer(_rig, iss: iss)
            {
                Flow = any with { LocalPort = Rig.Port, RemotePort = (ushort)(40_000 + i / 2 % Ports) },
                Timestamps = timestamps,
                TsVal = isSecond ? clock : clock + 1_000_000_000,
            };
            Instant start = _rig.Now;
            if (!TryOpen(peer))
                refused++;
            Assert.True(_rig.Now - start <= s_mostPatience, $"connection {i} took {_rig.Now - start}");
            CloseHere(peer);
        }
        // Or no port was ever found in TIME-WAIT by a client that is behind, and nothing was shown.
        Assert.InRange(refused, Ports * Rounds / 2, int.MaxValue);
        Assert.Equal(Ports, _rig.Stack.TimeWaitCount);
    }

    /// <summary>
    /// Connects as RFC 9293, section 3.10.7.3 has it: an ACK that is none for its SYN gets a RST, and the SYN is sent
    /// again. False when that was needed.
    /// </summary>
    private bool TryOpen(Peer peer)
    {
        bool atOnce = true;
        TimeSpan wait = TimeSpan.FromSeconds(1);
        while (true)
        {
            peer.Send(peer.Syn());
            Seen answer = Assert.Single(peer.Take());
            if (answer.Flags == (TcpFlags.Syn | TcpFlags.Ack))
            {
                peer.Nxt = peer.Iss + 1;
                peer.Ack = answer.Seq + 1;
                peer.TsEcr = answer.Packet.TsVal;
                peer.Send(TcpFlags.Ack);
                return atOnce;
            }
            atOnce = false;
            Assert.Equal(TcpFlags.Ack, answer.Flags);
            peer.Send(new SegmentFields { Seq = answer.Ack, Flags = TcpFlags.Rst });
            _rig.Advance(wait);
            peer.TsVal += (uint)wait.TotalMilliseconds;
            Assert.True(wait < s_mostPatience, "the second SYN was not heard either");
            wait *= 2;
        }
    }

    /// <summary>The server closes first, and so it is the server that is in TIME-WAIT.</summary>
    private void CloseHere(Peer peer)
    {
        Assert.True(_rig.Stack.TryAccept(out TcpConnection? connection));
        connection.Close();
        _rig.Emit();
        Seen fin = Assert.Single(peer.Take());
        peer.Ack = fin.Seq + 1;
        peer.Send(TcpFlags.Ack | TcpFlags.Fin);
        peer.Take();
        Assert.Equal(TcpState.Closed, connection.State);
        _rig.Milliseconds(10);
    }
}
