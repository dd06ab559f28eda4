namespace Kestrel.Transport.Xdp;

/// <summary>How the XDP program is attached to an interface.</summary>
public enum AttachMode
{
    /// <summary>Native. Generic is never a silent fallback: where native is refused, the companion sockets serve.</summary>
    Auto,

    /// <summary>In the driver ("drv").</summary>
    Native,

    /// <summary>In the kernel's network stack ("skb"): works on every device, and costs most of the gain.</summary>
    Generic,
}
