namespace Kestrel.Transport.Xdp;

/// <summary>
/// AF_XDP cannot serve an endpoint, and <see cref="XdpTransportOptions.Required"/> rules sockets out. An
/// <see cref="IOException"/>, since Kestrel answers most other exceptions from a wildcard or localhost bind by trying
/// the next address.
/// </summary>
public sealed class XdpUnavailableException : IOException
{
    public XdpUnavailableException()
    {
    }

    public XdpUnavailableException(string message)
        : base(message)
    {
    }

    public XdpUnavailableException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}
