namespace Xdp.Sockets;

/// <summary>How an XDP program is attached to a network interface.</summary>
public enum AttachMode
{
    /// <summary>Native. Where native is refused, attaching fails: generic is used only when it is asked for.</summary>
    Auto,

    /// <summary>In the driver ("drv"), before the kernel makes a socket buffer.</summary>
    Native,

    /// <summary>
    /// In the kernel's network stack ("skb"). It works on every device. It is slower, and segments arrive merged (GRO).
    /// </summary>
    Generic,
}
