namespace Xdp.TcpLite;

/// <summary>RFC 5681 with RFC 6582's recovery: one segment more each round trip, half of it after a loss.</summary>
internal sealed class NewReno : LossBasedControl
{
    private long _acked;
    private long _savedAcked;

    private protected override void Avoid(long ackedBytes, TimeSpan srtt, Instant now)
    {
        _acked += ackedBytes;
        if (_acked < Cwnd)
            return;
        _acked -= Cwnd;
        Cwnd += Mss;
        _acked = Math.Min(_acked, Cwnd);
    }

    private protected override long Reduce(bool isTimeout)
    {
        _acked = 0;
        return Cwnd / 2;
    }

    private protected override void SaveState() => _savedAcked = _acked;

    private protected override void RestoreState() => _acked = _savedAcked;
}
