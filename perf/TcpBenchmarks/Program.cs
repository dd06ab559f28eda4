using BenchmarkDotNet.Running;
using TcpBenchmarks;

BenchmarkSwitcher.FromAssembly(typeof(EchoBenchmark).Assembly).Run(args);
