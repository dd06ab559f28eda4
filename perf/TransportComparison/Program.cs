using TransportComparison;

// Two transports, one app, one machine, one run. Each round measures both sides once, and the order changes from round
// to round. So what drifts over the run affects both alike.
return Plan.Parse(args, Comparison.Run);
