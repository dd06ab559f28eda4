namespace TransportComparison.Tests;

public class ScenarioTests
{
    [Fact]
    public void Parse_Names_GivesThemOnceInTheTablesOrder()
    {
        var scenarios = Scenario.Parse("h2, json,h2", out var unknown);
        Assert.Equal(["json", "h2"], scenarios.Select(scenario => scenario.Name));
        Assert.Empty(unknown);
    }

    [Fact]
    public void Parse_All_GivesEach() => Assert.Equal(Scenario.All, Scenario.Parse("all", out _));

    [Fact]
    public void Parse_UnknownName_IsTold()
    {
        Scenario.Parse("json,quic", out var unknown);
        Assert.Equal(["quic"], unknown);
    }
}
