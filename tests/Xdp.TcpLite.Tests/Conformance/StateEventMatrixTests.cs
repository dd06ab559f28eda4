using System.Globalization;
using System.Text;

namespace Xdp.TcpLite.Tests.Conformance;

/// <summary>
/// Every kind of segment, in every state, at every place in the window, over IPv4 and IPv6. Answer and next state must
/// be those that <see cref="SegmentRules"/> derives from the text. Each case is written as a script and played.
/// </summary>
public class StateEventMatrixTests
{
    /// <summary>The window that is announced in each of the states but the first three.</summary>
    private const int Window = 65535;

    private static readonly string[] s_ips = ["IPv4", "IPv6"];

    public static TheoryData<TcpState, SegmentKind, Position, string> Cases()
    {
        var cases = new TheoryData<TcpState, SegmentKind, Position, string>();
        foreach (TcpState state in Enum.GetValues<TcpState>())
        {
            foreach (SegmentKind kind in Enum.GetValues<SegmentKind>())
            {
                foreach (Position position in Enum.GetValues<Position>())
                {
                    foreach (string ip in s_ips)
                        cases.Add(state, kind, position, ip);
                }
            }
        }
        return cases;
    }

    [Fact]
    public void Cases_All_AreThere() => Assert.Equal(8 * 11 * 5 * 2, Cases().Count());

    [Theory]
    [MemberData(nameof(Cases))]
    public void Segment_InState_IsAnsweredAsTheTextHasIt(TcpState state, SegmentKind kind, Position position, string ip)
    {
        Reaction reaction = SegmentRules.For(state, kind, position);
        Script script =
            Script.Parse($"{kind} {position} in {state} ({reaction.Rule})", Write(state, kind, position, reaction));
        ScriptRunner.Run(script, ipv6: ip == "IPv6");
    }

    /// <summary>What brings a stack into the state, and the sequence numbers there.</summary>
    private static (string Script, long SndNxt, long RcvNxt) Enter(TcpState state)
    {
        const string listen = "+0 listen\n";
        const string synReceived = listen + "+0 < S 0:0(0) win 65535 <mss 1000>\n+0 > S. 0:0(0) ack 1 <...>\n";
        const string established = synReceived + "+.1 < . 1:1(0) ack 1 win 65535\n+0 accept\n";
        const string finWait1 = established + "+0 shutdown\n+0 > F. 1:1(0) ack 1\n";
        const string finWait2 = finWait1 + "+.1 < . 1:1(0) ack 2 win 65535\n";
        const string closeWait = established + "+0 < F. 1:1(0) ack 1 win 65535\n+0 > . 1:1(0) ack 2\n";
        return state switch
        {
            TcpState.Closed => ("", 0, 0),
            TcpState.Listen => (listen, 0, 0),
            TcpState.SynSent => ("+0 connect\n+0 > S 0:0(0) <...>\n", 1, 0),
            TcpState.SynReceived => (synReceived, 1, 1),
            TcpState.Established => (established, 1, 1),
            TcpState.FinWait1 => (finWait1, 2, 1),
            TcpState.FinWait2 => (finWait2, 2, 1),
            TcpState.CloseWait => (closeWait, 1, 2),
            TcpState.Closing => (finWait1 + "+.1 < F. 1:1(0) ack 1 win 65535\n+0 > . 2:2(0) ack 2\n", 2, 2),
            TcpState.LastAck => (closeWait + "+0 shutdown\n+0 > F. 1:1(0) ack 2\n", 2, 2),
            TcpState.TimeWait => (finWait2 + "+0 < F. 1:1(0) ack 2 win 65535\n+0 > . 2:2(0) ack 2\n", 2, 2),
            _ => throw new ArgumentOutOfRangeException(nameof(state)),
        };
    }

    private static string Write(TcpState state, SegmentKind kind, Position position, Reaction reaction)
    {
        (string enter, long sndNxt, long rcvNxt) = Enter(state);
        long seq, ack = sndNxt;
        // In CLOSE-WAIT and after it the window has one byte less: the peer's FIN took it.
        long window = Window + 1 - Math.Max(rcvNxt, 1);
        switch (state)
        {
            case TcpState.Closed or TcpState.Listen:
                seq = 1000 * (1 + (int)position);
                ack = 5000 * (1 + (int)position);
                break;
            case TcpState.SynSent:
                seq = 0;
                ack = position switch
                {
                    Position.Below => -1,
                    Position.LeftEdge => 0,
                    Position.Outside => 2,
                    _ => 1,
                };
                break;
            default:
                seq = position switch
                {
                    Position.Below => rcvNxt - 1,
                    Position.LeftEdge => rcvNxt,
                    Position.Inside => rcvNxt + window / 2,
                    Position.RightEdge => rcvNxt + window - 1,
                    _ => rcvNxt + window + 1000,
                };
                break;
        }
        (string flags, int length) = kind switch
        {
            SegmentKind.Syn => ("S", 1),
            SegmentKind.SynAck => ("S.", 1),
            SegmentKind.SynFin => ("SF", 2),
            SegmentKind.Ack => (".", 0),
            SegmentKind.Fin => ("F", 1),
            SegmentKind.FinAck => ("F.", 1),
            SegmentKind.Rst => ("R", 0),
            _ => ("R.", 0),
        };
        var script = new StringBuilder(enter);
        string ackText = flags.Contains('.', StringComparison.Ordinal)
            ? string.Create(CultureInfo.InvariantCulture, $" ack {ack}")
            : "";
        script.Append(CultureInfo.InvariantCulture, $"+.01 < {flags} {seq}:{seq}(0){ackText} win 65535\n");
        string? answer = reaction.Answer switch
        {
            Answer.Ack when state == TcpState.SynSent => $". 1:1(0) ack {seq + 1}",
            Answer.Ack => $". {sndNxt}:{sndNxt}(0) ack {rcvNxt}",
            Answer.AckOfFin => $". {sndNxt}:{sndNxt}(0) ack {rcvNxt + 1}",
            Answer.SynAck => $"S. 0:0(0) ack {seq + 1} <...>",
            Answer.ResetFromAck => $"R {ack}:{ack}(0)",
            Answer.ResetFromSeq => $"R. 0:0(0) ack {seq + length}",
            _ => null,
        };
        if (answer is not null)
            script.Append(CultureInfo.InvariantCulture, $"+0 > {answer}\n");
        if (state == TcpState.SynReceived && reaction.Next is (TcpState.Established or TcpState.CloseWait))
            script.Append("+0 accept\n");
        // Where somebody listens, what has ended is a port that listens.
        bool listens = state is not (TcpState.Closed or TcpState.SynSent);
        TcpState next = reaction.Next == TcpState.Closed && listens ? TcpState.Listen : reaction.Next;
        script.Append(CultureInfo.InvariantCulture, $"= state {ScriptRunner.NameOf(next)}\n");
        return script.ToString();
    }
}
