using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;

namespace HelloWeb;

/// <summary>
/// The HTML of <c>/</c>: the path that served the page, and the transport's counters, which the page keeps fresh.
/// </summary>
internal static class Page
{
    public static string Render(ConnectionFacts facts, IReadOnlyDictionary<string, double> counters)
    {
        string path = facts switch
        {
            { Transport: "xdp" } => $"AF_XDP on {facts.Interface}, queue {facts.Queue}, bound in {facts.BindMode} mode",
            { Companion: true } => "kernel sockets: the XDP transport's companion listener",
            _ => "kernel sockets",
        };
        var rows = new StringBuilder();
        foreach (var (name, value) in counters)
            rows.Append(
                CultureInfo.InvariantCulture,
                $"<tr><td>{HtmlEncoder.Default.Encode(name)}</td><td>{value}</td></tr>\n");
        return $$"""
            <!doctype html>
            <html lang="en">
            <meta charset="utf-8">
            <title>Hello from Kestrel</title>
            <style>
              body { font: 16px/1.5 system-ui, sans-serif; margin: 3em auto; max-width: 44em; padding: 0 1em }
              td { padding: 0 1em 0 0 } td + td { text-align: right; font-variant-numeric: tabular-nums }
            </style>
            <h1>Hello, World!</h1>
            <p>This page came over <strong>{{HtmlEncoder.Default.Encode(path)}}</strong>,
               from {{facts.Local}} to {{facts.Remote}}, {{facts.Protocol}}.</p>
            <table id="counters">
            {{rows}}</table>
            <script>
              setInterval(async () => {
                const counters = await (await fetch("/counters")).json();
                document.getElementById("counters").replaceChildren(...Object.entries(counters).map(([name, value]) => {
                  const row = document.createElement("tr");
                  for (const text of [name, value])
                    row.append(Object.assign(document.createElement("td"), { textContent: text }));
                  return row;
                }));
              }, 1000);
            </script>
            </html>
            """;
    }
}
