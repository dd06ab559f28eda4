using System.Globalization;
using System.Net;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using Xdp.Sockets;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Options;

/// <summary>
/// Reads <see cref="XdpTransportOptions"/> from the configuration section <see cref="Section"/>. Without reflection,
/// and with an error that names the key and the value for whatever does not parse, unknown keys included. While the
/// environment switches the transport off, only the source lists are read, which sockets obey as well: other settings
/// that are wrong are no reason not to start then.
/// </summary>
internal sealed class XdpOptionsBinder(IServiceProvider services) : IConfigureOptions<XdpTransportOptions>
{
    internal const string Section = "Kestrel:Xdp";

    public void Configure(XdpTransportOptions options)
    {
        if (services.GetService<IConfiguration>() is not { } configuration)
            return;
        IConfigurationSection section = configuration.GetSection(Section);
        if (EnvironmentSwitches.IsOff)
            BindSources(section, options);
        else
            Bind(section, options);
    }

    internal static void Bind(IConfiguration section, XdpTransportOptions options)
    {
        foreach (IConfigurationSection key in section.GetChildren())
            BindKey(key, options);
    }

    private static void BindSources(IConfigurationSection section, XdpTransportOptions options)
    {
        BindKey(section.GetSection(nameof(XdpTransportOptions.AllowedSources)), options);
        BindKey(section.GetSection(nameof(XdpTransportOptions.DeniedSources)), options);
    }

    private static void BindKey(IConfigurationSection key, XdpTransportOptions options)
    {
        switch (key.Key.ToUpperInvariant())
        {
            case "ENABLED":
                options.Enabled = Parse(key, bool.Parse);
                break;
            case "INTERFACES":
                BindList(key, options.Interfaces, static text => text);
                break;
            case "LOCALADDRESSES":
                options.LocalAddresses = Parse(key, ParseEnum<LocalAddresses>);
                break;
            case "ATTACHMODE":
                options.AttachMode = Parse(key, ParseEnum<AttachMode>);
                break;
            case "BINDMODE":
                options.BindMode = Parse(key, ParseEnum<BindMode>);
                break;
            case "QUEUES":
                BindList(key, options.Queues ??= [], ParseNumber<int>);
                break;
            case "FRAMESPERQUEUE":
                options.FramesPerQueue = Parse(key, ParseNumber<int>);
                break;
            case "MEMORYBUDGET":
                options.MemoryBudget = Parse(key, ParseNumber<long>);
                break;
            case "RECEIVERINGSIZE":
                options.ReceiveRingSize = Parse(key, ParseNumber<int>);
                break;
            case "TRANSMITRINGSIZE":
                options.TransmitRingSize = Parse(key, ParseNumber<int>);
                break;
            case "BUSYSPIN":
                options.BusySpin = Parse(key, ParseDuration);
                break;
            case "REQUIRED":
                options.Required = Parse(key, bool.Parse);
                break;
            case "ALLOWEDSOURCES":
                BindList(key, options.AllowedSources, ParseNetwork);
                break;
            case "DENIEDSOURCES":
                BindList(key, options.DeniedSources, ParseNetwork);
                break;
            case "SHUTDOWNLINGER":
                options.ShutdownLinger = Parse(key, ParseDuration);
                break;
            case "SHUTDOWNLINGERMAX":
                options.ShutdownLingerMax = Parse(key, ParseDuration);
                break;
            case "KEEPALIVETIME":
                options.KeepAliveTime = Parse(key, ParseDuration);
                break;
            case "KEEPALIVEINTERVAL":
                options.KeepAliveInterval = Parse(key, ParseDuration);
                break;
            case "KEEPALIVECOUNT":
                options.KeepAliveCount = Parse(key, ParseNumber<int>);
                break;
            case "USERTIMEOUT":
                options.UserTimeout = Parse(key, ParseDuration);
                break;
            case "RECEIVEBUFFERMAX":
                options.ReceiveBufferMax = Parse(key, ParseNumber<int>);
                break;
            case "SENDBUFFERMAX":
                options.SendBufferMax = Parse(key, ParseNumber<int>);
                break;
            case "CONGESTIONCONTROL":
                options.CongestionControl = Parse(key, ParseEnum<CongestionAlgorithm>);
                break;
            case "BACKLOG":
                options.Backlog = Parse(key, ParseNumber<int>);
                break;
            case "NODELAY":
                options.NoDelay = Parse(key, bool.Parse);
                break;
            case "SEGMENTATIONOFFLOAD":
                options.SegmentationOffload = Parse(key, bool.Parse);
                break;
            case "MAXREADBUFFERSIZE":
                options.MaxReadBufferSize = Parse(key, ParseNumber<long>);
                break;
            case "MAXWRITEBUFFERSIZE":
                options.MaxWriteBufferSize = Parse(key, ParseNumber<long>);
                break;
            case "UNSAFEPREFERINLINESCHEDULING":
                options.UnsafePreferInlineScheduling = Parse(key, bool.Parse);
                break;
            default:
                throw Invalid($"{key.Path}: there is no such setting.");
        }
    }

    // A list is a section with one child an entry, or one text with commas (as environment variables have it).
    private static void BindList<T>(IConfigurationSection key, IList<T> list, Func<string, T> parse)
    {
        const StringSplitOptions trimmed = StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries;
        foreach (string part in (key.Value ?? "").Split(',', trimmed))
            list.Add(Parse(key.Path, part, parse));
        foreach (IConfigurationSection entry in key.GetChildren())
            list.Add(Parse(entry, parse));
    }

    private static T Parse<T>(IConfigurationSection key, Func<string, T> parse) =>
        Parse(key.Path, key.Value ?? "", parse);

    private static T Parse<T>(string path, string text, Func<string, T> parse)
    {
        try
        {
            return parse(text);
        }
        catch (Exception e) when (e is FormatException or OverflowException or ArgumentException)
        {
            throw Invalid($"{path}: \"{text}\" is not valid. {e.Message}");
        }
    }

    private static T ParseNumber<T>(string text)
        where T : System.Numerics.INumberBase<T> => T.Parse(text, NumberStyles.Integer, CultureInfo.InvariantCulture);

    private static T ParseEnum<T>(string text)
        where T : struct, Enum =>
        Enum.TryParse(text, ignoreCase: true, out T value) && Enum.IsDefined(value)
            ? value
            : throw new FormatException($"One of {string.Join(", ", Enum.GetNames<T>())} is expected.");

    private static TimeSpan ParseDuration(string text) => TimeSpan.Parse(text, CultureInfo.InvariantCulture);

    private static IPNetwork ParseNetwork(string text)
    {
        if (text.Contains('/', StringComparison.Ordinal))
            return IPNetwork.Parse(text);
        var address = IPAddress.Parse(text);
        return new IPNetwork(address, address.GetAddressBytes().Length * 8);
    }

    private static OptionsValidationException Invalid(string failure) =>
        new(Microsoft.Extensions.Options.Options.DefaultName, typeof(XdpTransportOptions), [failure]);
}
