namespace Kestrel.Transport.Xdp.Internal.Connections;

/// <summary>
/// Connection ids in Kestrel's form: 13 digits of base 32. The counter starts at the present, so that the ids of one
/// run are not those of another.
/// </summary>
internal static class ConnectionId
{
    private const string Digits = "0123456789ABCDEFGHIJKLMNOPQRSTUV";

    private static long s_last = DateTime.UtcNow.Ticks;

    public static string Next() => Format(Interlocked.Increment(ref s_last));

    public static string Format(long id) => string.Create(13, id, static (text, value) =>
    {
        for (int i = text.Length - 1; i >= 0; i--)
        {
            text[i] = Digits[(int)(value & 31)];
            value = (long)((ulong)value >> 5);
        }
    });
}
