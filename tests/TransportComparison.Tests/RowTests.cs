namespace TransportComparison.Tests;

public class RowTests
{
    [Fact]
    public void Ratio_IsTheMedianOfTheRoundsOwn()
    {
        var row = new Row(Scenario.All[0], "default");
        foreach (var (candidate, baseline) in ((double, double)[])[(100, 100), (300, 100), (40, 20)])
        {
            row.Candidate.Add(new Sample(candidate, 5, null, 1, 1, 0, 0));
            row.Baseline.Add(new Sample(baseline, 10, null, 1, 1, 0, 0));
        }

        Assert.Equal([1, 3, 2], row.Ratios(sample => sample.RequestsPerSecond));
        Assert.Equal(2, row.Ratio(sample => sample.RequestsPerSecond));
        Assert.Equal(0.5, row.Ratio(sample => sample.P50));
    }

    [Fact]
    public void Ratio_OfWhatNoRoundHas_IsNull()
    {
        var row = new Row(Scenario.All[0], "default");
        row.Candidate.Add(new Sample(1, null, null, 1, 1, 0, 0));
        row.Baseline.Add(new Sample(1, 3, null, 1, 1, 0, 0));
        Assert.Null(row.Ratio(sample => sample.P50));
    }
}
