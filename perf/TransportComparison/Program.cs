using TransportComparison;

// Two transports, one app, one machine, one run. Each round measures every leg once, in an order that turns with the round, each
// leg in a fresh process: what drifts over the run, or differs from one start to the next, falls on both sides alike.
return Plan.Parse(args, Comparison.Run);
