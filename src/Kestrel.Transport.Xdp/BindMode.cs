namespace Kestrel.Transport.Xdp;

/// <summary>How an AF_XDP socket exchanges frames with the driver.</summary>
public enum BindMode
{
    /// <summary>Zero-copy where the driver offers it, else copy.</summary>
    Auto,

    /// <summary>The driver receives into and sends from the frames themselves; the bind fails where it cannot.</summary>
    ZeroCopy,

    /// <summary>The kernel copies between its own buffers and the frames.</summary>
    Copy,
}
