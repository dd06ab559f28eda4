namespace Kestrel.Transport.Xdp.Internal.Options;

/// <summary>The environment variables that the transport obeys. Nothing else of it reads the environment.</summary>
internal static class EnvironmentSwitches
{
    /// <summary>"0", "false", "no" or "off" leaves everything to sockets.</summary>
    internal const string Transport = "KESTREL_XDP";

    /// <summary>
    /// Set to "1", memory that is given back is overwritten, so that data which is read or sent from it too late shows.
    /// A diagnostic: it costs a pass over each frame.
    /// </summary>
    internal const string Poison = "KESTREL_XDP_POISON";

    private static readonly string[] s_off = ["0", "false", "no", "off"];

    private static readonly string[] s_on = ["1", "true", "yes", "on", ""];

    /// <summary>Is the transport switched off?</summary>
    internal static bool IsOff => s_off.Contains(Value, StringComparer.OrdinalIgnoreCase);

    /// <summary>Is the variable set to something that means neither on nor off? Then it has no effect.</summary>
    internal static bool IsUnknown => !IsOff && !s_on.Contains(Value, StringComparer.OrdinalIgnoreCase);

    /// <summary>Of <see cref="Transport"/>; empty when it is not set.</summary>
    internal static string Value => Environment.GetEnvironmentVariable(Transport)?.Trim() ?? "";

    internal static bool PoisonsMemory { get; } = Environment.GetEnvironmentVariable(Poison) == "1";
}
