using System.CommandLine;
using TcpTrials;
using TcpTrials.Flood;
using TcpTrials.Goodput;
using TcpTrials.Idle;
using TcpTrials.Orphans;

// Loss and delay, a SYN flood, tens of thousands of idle connections, as many that peers do not let go: how the stack
// copes, compared with the kernel's TCP on the same machine in the same run. The scripts perf/goodput, perf/synflood,
// perf/idle and perf/orphans start the commands of these names. The hidden commands are the processes that these start
// in the lab's namespaces.
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
    OrphansCommand.Create(),
    OrphansClient.Create(),
};
var invocation = new InvocationConfiguration { ProcessTerminationTimeout = TimeSpan.FromSeconds(30) };
return root.Parse(args).InvokeAsync(invocation).GetAwaiter().GetResult();
