using System.CommandLine;
using TcpTrials;
using TcpTrials.Flood;
using TcpTrials.Goodput;
using TcpTrials.Idle;

// What a TCP must stand, beside the kernel's on the same machine in the same run: loss and delay, a SYN flood, tens of thousands of idle
// connections. perf/goodput, perf/synflood and perf/idle start the first three commands; the hidden ones are the processes these
// start in the lab's namespaces.
var root = new RootCommand("Trials of the TCP stack and the transport in the lab.")
{
    GoodputCommand.Create(),
    DelayLine.Create(),
    FloodCommand.Create(),
    SynGenerator.Create(),
    PacedClient.Create(),
    IdleCommand.Create(),
    IdleServer.Create(),
    IdleClient.Create(),
};
return root.Parse(args).InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = TimeSpan.FromSeconds(30) })
    .GetAwaiter().GetResult();
