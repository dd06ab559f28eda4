using TransportComparison.Generators;

namespace TransportComparison.Tests;

public class GeneratorTests
{
    private static readonly Scenario s_keepAlive = Named("plaintext-c64");

    private const string WrkReport = """
        Running 1s test @ http://10.77.2.1:8080/plaintext
          1 threads and 4 connections
          Thread Stats   Avg      Stdev     Max   +/- Stdev
            Latency   221.61us  475.41us   5.55ms   92.92%
            Req/Sec    33.64k     9.55k   46.32k    70.00%
          Latency Distribution
             50%   91.00us
             75%  132.00us
             90%  360.00us
             99%    2.60ms
          33491 requests in 1.00s, 5.27MB read
        Requests/sec:  33435.66
        Transfer/sec:      5.26MB
        """;

    private const string H2LoadReport = """
        starting benchmark...
        spawning thread #0: 8 total client(s). Timing-based test with 0s of warm-up time and 1s of main duration.
        finished in 1.00s, 114689.00 req/s, 3.83MB/s
        requests: 114689 total, 114817 started, 114689 done, 114689 succeeded, 0 failed, 0 errored, 0 timeout
        status codes: 114689 2xx, 0 3xx, 0 4xx, 0 5xx
        traffic: 3.83MB (4015334) total, 448.74KB (459508) headers (space savings 95.69%), 1.42MB (1490957) data
                             min         max         mean         sd        +/- sd
        time for request:      176us     17.84ms      1.02ms       761us    93.33%
        time for connect:       58us       173us       121us        39us    62.50%
        time to 1st byte:    16.11ms     18.21ms     16.68ms       936us    75.00%
        req/s           :   14101.50    14696.93    14333.18      191.50    75.00%
        """;

    private const string BombardierReport = """
        {"spec":{"numberOfConnections":64},"result":{"timeTakenSeconds":2.0,
        "req1xx":0,"req2xx":70000,"req3xx":0,"req4xx":OTHER,"req5xx":0,"others":0,
        "latency":{"mean":900.5,"max":20000,"percentiles":{"50":850,"75":1000,"90":1200,"95":1500,"99":2400}}}}
        """;

    [Fact]
    public void Wrk_Report_GivesCountRateAndPercentiles() =>
        Assert.Equal(new Load(33491, 33435.66, 91, 2600, 0), new Wrk(s_keepAlive, "").Parse(WrkReport));

    [Fact]
    public void Wrk_SocketErrors_AreFailures()
    {
        string report = WrkReport.Replace(
            "Requests/sec", "  Socket errors: connect 1, read 20, write 300, timeout 4000\nRequests/sec");
        Assert.Equal(4321, new Wrk(s_keepAlive, "").Parse(report).Failures);
    }

    [Fact]
    public void Wrk_WrongStatus_IsAFailureAndNoAnswer()
    {
        string report = WrkReport.Replace("Requests/sec", "  Non-2xx or 3xx responses: 491\nRequests/sec");
        var load = new Wrk(s_keepAlive, "").Parse(report);
        Assert.Equal((33000, 491), (load.Requests, load.Failures));
    }

    [Fact]
    public void Wrk_Pipelined_HasNoPercentiles() =>
        Assert.Equal(new Load(33491, 33435.66, null, null, 0), new Wrk(Named("pipelined"), "").Parse(WrkReport));

    [Fact]
    public void Wrk_OtherText_Throws() =>
        Assert.Throws<FormatException>(
            () => new Wrk(s_keepAlive, "").Parse("unable to connect to 10.77.2.1:8080 Connection refused"));

    [Fact]
    public void H2Load_WithoutPercentiles_LeavesThemOut() =>
        Assert.Equal(new Load(114689, 114689, null, null, 0), new H2Load(Named("h2")).Parse(H2LoadReport));

    [Fact]
    public void H2Load_ColumnsForPercentiles_AreRead()
    {
        string report = H2LoadReport
            .Replace("min         max         mean ", "min         max      median      p95      p99      mean ")
            .Replace("17.84ms      1.02ms ", "17.84ms       980us   1.90ms   2.50ms    1.02ms ");
        Assert.Equal(new Load(114689, 114689, 980, 2500, 0), new H2Load(Named("h2")).Parse(report));
    }

    [Fact]
    public void H2Load_FailedAndRedirected_AreFailures()
    {
        string report = H2LoadReport
            .Replace(
                "114689 succeeded, 0 failed, 0 errored, 0 timeout", "114680 succeeded, 9 failed, 4 errored, 2 timeout")
            .Replace("114689 2xx, 0 3xx", "114675 2xx, 5 3xx");
        var load = new H2Load(Named("h2")).Parse(report);
        Assert.Equal((114675, 16), (load.Requests, load.Failures));
    }

    [Fact]
    public void Bombardier_Report_GivesCountRateAndPercentiles() =>
        Assert.Equal(
            new Load(70000, 35000, 850, 2400, 3),
            new Bombardier(s_keepAlive).Parse(BombardierReport.Replace("OTHER", "3")));

    [Fact]
    public void Bombardier_OtherJson_Throws() =>
        Assert.Throws<FormatException>(() => new Bombardier(s_keepAlive).Parse("{}"));

    private static Scenario Named(string name) => Assert.Single(Scenario.All, scenario => scenario.Name == name);
}
