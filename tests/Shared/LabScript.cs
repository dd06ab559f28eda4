namespace Shared;

/// <summary>
/// The repository's <c>lab</c> script, for the lab of one name: runs it, and tells how to run commands in that lab.
/// </summary>
internal sealed class LabScript(string name)
{
    private static readonly string s_script = Path.Combine(Repository.Root, "lab");

    private readonly Dictionary<string, string> _environment = new() { ["LAB_NAME"] = name };

    /// <summary>The lab's namespace of <paramref name="role"/>: server, client or router.</summary>
    internal string Namespace(string role) => $"{name}-{role}";

    /// <summary>Runs the script; its output.</summary>
    /// <exception cref="CommandException">It failed.</exception>
    internal async Task<string> RunAsync(params IEnumerable<string> arguments) =>
        (await Command.RunAsync([s_script, .. arguments], _environment)).Succeeded();

    /// <summary>
    /// Reads lines of NAME=value that the script writes, such as the names and addresses of <c>lab env</c>.
    /// </summary>
    internal static IReadOnlyDictionary<string, string> Values(string lines) =>
        lines.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split('=', 2))
            .ToDictionary(pair => pair[0], pair => pair[1]);

    /// <summary>The command line that runs a command in one of the lab's namespaces, as a process of its own.</summary>
    internal static string[] Inside(string networkNamespace, params IEnumerable<string> command) =>
        ["ip", "netns", "exec", networkNamespace, .. command];
}
