using ArchUnitNET.Domain;
using ArchUnitNET.Domain.Extensions;
using ArchUnitNET.Loader;

namespace Kestrel.Transport.Xdp.Tests;

/// <summary>
/// The transport's namespaces are layers, and its folders are its namespaces. A layer refers to those below it only.
/// </summary>
public class LayerTests
{
    private const string Root = "Kestrel.Transport.Xdp.Internal.";

    // From the bottom. Those in one line do not know each other.
    private static readonly string[][] s_layers =
    [
        ["Options", "Steering"],
        ["Logging"],
        ["Pipes"],
        ["Connections"],
        ["Queues"],
        ["Interfaces"],
        ["Diagnostics"],
        ["Listeners"],
    ];

    // Pipes are plain data and memory: they need nothing of the layers below either.
    private static readonly (string From, string To)[] s_forbidden = [("Pipes", "Options"), ("Pipes", "Logging")];

    private static readonly Architecture s_transport =
        new ArchLoader().LoadAssemblies(typeof(XdpTransportFactory).Assembly).Build();

    private static IEnumerable<IType> Types =>
        s_transport.Types.Where(type => type.FullName.StartsWith(Root, StringComparison.Ordinal));

    [Fact]
    public void Types_ReferToLayersBelowOnly()
    {
        (string From, string To, string Types)[] arrows =
        [
            .. from type in Types
               from target in type.GetTypeDependencies(s_transport)
               where target.FullName.StartsWith(Root, StringComparison.Ordinal)
               where FolderOf(type) != FolderOf(target)
               select (FolderOf(type), FolderOf(target), $"{type.FullName} -> {target.FullName}"),
        ];
        Assert.Contains(arrows, arrow => arrow is { From: "Queues", To: "Connections" });
        Assert.Empty(
            from arrow in arrows
            where LevelOf(arrow.To) >= LevelOf(arrow.From) || s_forbidden.Contains((arrow.From, arrow.To))
            select arrow.Types);
    }

    [Fact]
    public void Folders_AreTheLayers() =>
        Assert.Equal(s_layers.SelectMany(level => level).Order(), Types.Select(FolderOf).Distinct().Order());

    // What users write and see is known everywhere. What puts the transport together is on top of everything.
    [Fact]
    public void Types_DoNotReferToTheFactoryOrTheRegistration()
    {
        string[] known =
        [
            nameof(XdpTransportOptions), nameof(LocalAddresses), nameof(XdpUnavailableException),
            nameof(IXdpConnectionFeature),
        ];
        string[] violations =
        [
            .. from type in Types
               from target in type.GetTypeDependencies(s_transport)
               where target.Namespace.FullName == typeof(XdpTransportFactory).Namespace && !known.Contains(target.Name)
               select $"{type.FullName} -> {target.FullName}",
        ];
        Assert.Empty(violations.Distinct());
    }

    [Fact]
    public void PublicTypes_AreInTheRootNamespace() => Assert.All(
        typeof(XdpTransportFactory).Assembly.GetExportedTypes(),
        type => Assert.DoesNotContain("Internal", type.Namespace!, StringComparison.Ordinal));

    private static string FolderOf(IType type) => type.FullName[Root.Length..].Split('.', '/', '+')[0];

    private static int LevelOf(string folder) => Array.FindIndex(s_layers, level => level.Contains(folder));
}
