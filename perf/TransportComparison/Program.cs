using TransportComparison;

// Two transports, one app, one machine, one run. Each round measures both sides once, in an order that turns with the
// round: what drifts over the run falls on both alike.
return Plan.Parse(args, Comparison.Run);
