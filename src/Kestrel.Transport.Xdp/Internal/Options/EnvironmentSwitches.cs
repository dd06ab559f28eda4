namespace Kestrel.Transport.Xdp.Internal.Options;

/// <summary>The environment variables that the transport obeys. Nothing else of it reads the environment.</summary>
internal static class EnvironmentSwitches
{
    /// <summary>Set to "off", the variable leaves everything to sockets.</summary>
    internal const string Transport = "KESTREL_XDP";

    /// <summary>
    /// Set to "1", memory that is given back is overwritten, so that data which is read or sent from it too late shows.
    /// A diagnostic: it costs a pass over each frame.
    /// </summary>
    internal const string Poison = "KESTREL_XDP_POISON";

    internal static bool TransportIsOff =>
        string.Equals(Environment.GetEnvironmentVariable(Transport), "off", StringComparison.OrdinalIgnoreCase);

    internal static bool PoisonsMemory { get; } = Environment.GetEnvironmentVariable(Poison) == "1";
}
