using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;
using TransportComparison;

namespace TcpTrials;

/// <summary>A process in one of the lab's namespaces. It ends with this object. Both sides talk in lines.</summary>
internal sealed class LabProcess : IAsyncDisposable
{

    private readonly Process _process;
    private readonly StringBuilder _log = new();
    private readonly BlockingCollection<string> _lines = [];

    private LabProcess(ProcessStartInfo start)
    {
        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, e) => Note(e.Data, isOutput: true);
        _process.ErrorDataReceived += (_, e) => Note(e.Data, isOutput: false);
    }

    public static LabProcess Start(ProcessStartInfo start)
    {
        var process = new LabProcess(start);
        process._process.Start();
        process._process.BeginOutputReadLine();
        process._process.BeginErrorReadLine();
        return process;
    }

    public int Id => _process.Id;

    /// <summary>Bytes of memory that are in RAM.</summary>
    public long ResidentBytes
    {
        get
        {
            string line = File.ReadLines($"/proc/{_process.Id}/status")
                .First(line => line.StartsWith("VmRSS:", StringComparison.Ordinal));
            return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]) * 1024;
        }
    }

    public void Send(string line) => _process.StandardInput.WriteLine(line);

    /// <summary>
    /// Skips lines up to one that starts with <paramref name="prefix"/>. Returns the rest of that line.
    /// </summary>
    /// <exception cref="MeasurementException">It did not come in time, or the process ended.</exception>
    public async Task<string> Line(string prefix, TimeSpan patience, CancellationToken cancellation)
    {
        var end = Stopwatch.StartNew();
        while (end.Elapsed < patience)
        {
            while (_lines.TryTake(out string? line))
            {
                if (line.StartsWith(prefix, StringComparison.Ordinal))
                    return line[prefix.Length..].Trim();
            }

            if (_process.HasExited && _lines.Count == 0)
                throw new MeasurementException($"a process ended before it said '{prefix}'\n{_log}");
            await Task.Delay(20, cancellation);
        }

        throw new MeasurementException($"a process did not say '{prefix}' in {patience.TotalSeconds:0} s\n{_log}");
    }

    public async ValueTask DisposeAsync() => await Lab.End(_process);

    private void Note(string? line, bool isOutput)
    {
        if (line is null)
            return;
        lock (_log)
            _log.AppendLine(line);
        if (isOutput)
            _lines.Add(line);
    }
}
