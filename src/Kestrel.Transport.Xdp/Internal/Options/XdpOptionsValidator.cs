using System.Numerics;
using Microsoft.Extensions.Options;
using Xdp.Sockets;

namespace Kestrel.Transport.Xdp.Internal.Options;

/// <summary>
/// Checks what can be judged without looking at the machine: names of interfaces and numbers of queues are checked when
/// an endpoint is bound. Settings of a transport that is switched off are not judged.
/// </summary>
internal sealed class XdpOptionsValidator : IValidateOptions<XdpTransportOptions>
{
    // The kernel's own limit: queues and rings beyond it are refused with EINVAL.
    private const int LargestRing = 1 << 16;

    private static readonly TimeSpan s_longestKeepAlive = TimeSpan.FromSeconds(32767);

    internal static readonly TimeSpan ShortestUserTimeout = TimeSpan.FromSeconds(1);
    internal static readonly TimeSpan LongestUserTimeout = TimeSpan.FromDays(1);

    // ALTIFNAMSIZ, less the zero at the end. The name proper has 15 characters at most (IFNAMSIZ).
    private const int LongestName = 127;

    // The largest is where the TCP window ends.
    internal const int SmallestBuffer = 4096;
    internal const int LargestBuffer = 1 << 30;

    // A turn receives, answers and acknowledges from the same pool; below this it starves with one batch in flight.
    internal const int SmallestFrameCount = 256;

    public ValidateOptionsResult Validate(string? name, XdpTransportOptions options)
    {
        if (EnvironmentSwitches.IsOff || !options.Enabled)
            return ValidateOptionsResult.Success;
        var errors = new List<string>();

        for (int i = 0; i < options.Interfaces.Count; i++)
        {
            string device = options.Interfaces[i];
            if (string.IsNullOrWhiteSpace(device) || device.Length > LongestName
                || device.AsSpan().ContainsAny('/', ' ', ':'))
                errors.Add(
                    $"Interfaces[{i}] is \"{device}\"; the name of an interface is 1 to {LongestName} characters "
                    + "without '/', ':' and blanks.");
        }
        if (!Enum.IsDefined(options.LocalAddresses))
            errors.Add($"LocalAddresses is {(int)options.LocalAddresses}; Interface or All is expected.");
        if (!Enum.IsDefined(options.AttachMode))
            errors.Add($"AttachMode is {(int)options.AttachMode}; Auto, Native or Generic is expected.");
        if (!Enum.IsDefined(options.BindMode))
            errors.Add($"BindMode is {(int)options.BindMode}; Auto, ZeroCopy or Copy is expected.");
        if (options is { AttachMode: AttachMode.Generic, BindMode: BindMode.ZeroCopy })
            errors.Add(
                "BindMode.ZeroCopy needs the native AttachMode: generic XDP sees packets only after the driver has "
                + "copied them.");
        if (options.Queues is { } queues)
        {
            if (queues.Count == 0)
                errors.Add("Queues is empty; leave it null for all queues.");
            foreach (int queue in queues.Where(q => q is < 0 or > 255))
                errors.Add($"Queues has {queue}; 0 to 255 are possible.");
            if (queues.Distinct().Count() != queues.Count)
                errors.Add("Queues has a number twice.");
        }
        CheckRing(errors, nameof(options.ReceiveRingSize), options.ReceiveRingSize);
        CheckRing(errors, nameof(options.TransmitRingSize), options.TransmitRingSize);
        if (options.FramesPerQueue is { } frames && frames is < SmallestFrameCount or > 1 << 20)
            errors.Add($"FramesPerQueue is {frames}; {SmallestFrameCount} to {1 << 20} are possible.");
        if (options.MemoryBudget < SmallestFrameCount * 2048L)
            errors.Add(
                $"MemoryBudget is {options.MemoryBudget} bytes; "
                + $"one queue takes {SmallestFrameCount * 2048L} at least.");
        if (options.BusySpin < TimeSpan.Zero || options.BusySpin > TimeSpan.FromSeconds(1))
            errors.Add($"BusySpin is {options.BusySpin}; 0 to 1 second is possible, and some 50 µs are usual.");
        if (options.ShutdownLinger < TimeSpan.Zero || options.ShutdownLinger > TimeSpan.FromHours(1))
            errors.Add($"ShutdownLinger is {options.ShutdownLinger}; 0 to 1 hour is possible.");
        if (options.ShutdownLingerMax < TimeSpan.Zero || options.ShutdownLingerMax > TimeSpan.FromHours(1))
            errors.Add($"ShutdownLingerMax is {options.ShutdownLingerMax}; 0 to 1 hour is possible.");
        // The kernel's own limits of TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT.
        if (options.KeepAliveTime is { } idle && (idle < TimeSpan.FromSeconds(1) || idle > s_longestKeepAlive))
            errors.Add($"KeepAliveTime is {idle}; null, or 1 second to {s_longestKeepAlive} is possible.");
        if (options.KeepAliveInterval < TimeSpan.FromSeconds(1) || options.KeepAliveInterval > s_longestKeepAlive)
            errors.Add(
                $"KeepAliveInterval is {options.KeepAliveInterval}; 1 second to {s_longestKeepAlive} is possible.");
        if (options.KeepAliveCount is < 1 or > 127)
            errors.Add($"KeepAliveCount is {options.KeepAliveCount}; 1 to 127 is possible.");
        if (options.UserTimeout < ShortestUserTimeout || options.UserTimeout > LongestUserTimeout)
            errors.Add($"UserTimeout is {options.UserTimeout}; 1 second to 1 day is possible.");
        if (options.ReceiveBufferMax is < SmallestBuffer or > LargestBuffer)
            errors.Add(
                $"ReceiveBufferMax is {options.ReceiveBufferMax}; {SmallestBuffer} to {LargestBuffer} bytes are "
                + "possible (the TCP window ends there).");
        if (options.SendBufferMax is < SmallestBuffer or > LargestBuffer)
            errors.Add(
                $"SendBufferMax is {options.SendBufferMax}; {SmallestBuffer} to {LargestBuffer} bytes are possible.");
        if (options.CongestionControl is { } control && !Enum.IsDefined(control))
            errors.Add($"CongestionControl is {(int)control}; Cubic, NewReno or Bbr is expected.");
        if (options.Backlog is < 1)
            errors.Add($"Backlog is {options.Backlog}; 1 or more is expected.");
        if (options.MaxReadBufferSize is < 0)
            errors.Add($"MaxReadBufferSize is {options.MaxReadBufferSize}; 0 (unlimited) or more is expected.");
        if (options.MaxWriteBufferSize is < 0)
            errors.Add($"MaxWriteBufferSize is {options.MaxWriteBufferSize}; 0 (unlimited) or more is expected.");

        return errors.Count == 0 ? ValidateOptionsResult.Success : ValidateOptionsResult.Fail(errors);
    }

    private static void CheckRing(List<string> errors, string name, int size)
    {
        if (!BitOperations.IsPow2(size) || size is < 64 or > LargestRing)
            errors.Add($"{name} is {size}; a power of two from 64 to {LargestRing} is expected.");
    }
}
