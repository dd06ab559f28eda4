using System.Diagnostics;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;

namespace TransportComparison;

/// <summary>HelloWeb of this checkout, on the transport of this one or another.</summary>
internal static class Checkout
{
    public const string TransportProject = "src/Kestrel.Transport.Xdp/Kestrel.Transport.Xdp.csproj";

    /// <summary>HelloWeb on its own checkout's transport, which <c>perf/compare</c> has built.</summary>
    public static string App(string root) => Path.Combine(root, "samples/HelloWeb/bin/Release/net10.0/HelloWeb.dll");

    /// <summary>Does the transport that an app is built on have an option of this name?</summary>
    public static bool HasOption(string app, string name)
    {
        string transport = Path.Combine(Path.GetDirectoryName(app)!, "Kestrel.Transport.Xdp.dll");
        using var file = new PEReader(File.OpenRead(transport));
        MetadataReader reader = file.GetMetadataReader();
        return reader.TypeDefinitions.Select(reader.GetTypeDefinition)
            .Where(type => reader.StringComparer.Equals(type.Name, "XdpTransportOptions"))
            .SelectMany(static type => type.GetProperties())
            .Any(property => reader.StringComparer.Equals(reader.GetPropertyDefinition(property).Name, name));
    }

    /// <summary>Builds HelloWeb of one checkout on the transport of another.</summary>
    /// <remarks>Nothing is written to the other: all goes below this program's <c>bin</c>.</remarks>
    /// <returns>The app's path.</returns>
    /// <exception cref="MeasurementException">It does not build; the app may use what that transport lacks.</exception>
    public static async Task<string> Build(string root, string transportRoot, CancellationToken cancellation)
    {
        string artifacts = Path.Combine(root, "perf/TransportComparison/bin/baseline", transportRoot.Trim('/'));
        var start = new ProcessStartInfo("dotnet",
        [
            "build", Path.Combine(root, "samples/HelloWeb"), $"-p:TransportRoot={transportRoot}/",
            "--artifacts-path", artifacts,
            "--configuration", "Release", "--nologo", "--verbosity", "quiet",
            "--disable-build-servers", "-p:UseSharedCompilation=false", "-nodeReuse:false",
        ])
        { RedirectStandardOutput = true };
        using var build = Process.Start(start)!;
        try
        {
            string output = await build.StandardOutput.ReadToEndAsync(cancellation);
            await build.WaitForExitAsync(cancellation);
            if (build.ExitCode != 0)
            {
                throw new MeasurementException(
                    $"HelloWeb does not build on the transport of {transportRoot}\n{output}");
            }
            return Path.Combine(artifacts, "bin/HelloWeb/release/HelloWeb.dll");
        }
        catch (OperationCanceledException)
        {
            build.Kill(entireProcessTree: true);
            throw;
        }
    }
}
