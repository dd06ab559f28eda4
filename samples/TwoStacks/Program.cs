using System.Text;
using TwoStacks;
using Xdp.TcpLite;

// Two TCP stacks in one thread, on a clock of our own. Nothing here is beyond the public API.
var now = new Instant(0);
var client = new Host("192.0.2.1", now);
var server = new Host("192.0.2.2", now);
server.Stack.Listen(default, port: 7, owner: null);
TcpConnection opened =
    client.Stack.Connect(new FlowKey(client.Address, server.Address, 50000, 7), LinkPath.IpOnly, now)!;

string? answer = null;
bool clientDone = false, serverDone = false;
while (!clientDone || !serverDone)
{
    // What has happened.
    while (server.Stack.TryAccept(out _))
    {
    }
    while (server.Stack.TryTakeReady(out TcpConnection? connection))
    {
        TcpEvents events = connection.TakeEvents();
        if (events.HasFlag(TcpEvents.Readable))
            server.Write(connection, server.Read(connection));
        if (events.HasFlag(TcpEvents.PeerClosed))
            connection.Close();
        serverDone |= events.HasFlag(TcpEvents.Closed);
    }
    while (client.Stack.TryTakeReady(out TcpConnection? connection))
    {
        TcpEvents events = connection.TakeEvents();
        if (events.HasFlag(TcpEvents.Established))
            client.Write(connection, "Hello, stack!"u8);
        if (events.HasFlag(TcpEvents.Readable))
        {
            answer = Encoding.UTF8.GetString(client.Read(connection));
            TcpConnectionInfo info = opened.GetInfo(now);
            Console.WriteLine($"{now}: '{answer}', srtt {info.Srtt.TotalMilliseconds} ms, cwnd {info.Cwnd}");
            connection.Close();
        }
        clientDone |= events.HasFlag(TcpEvents.Closed);
    }

    // What is to be sent, over a link that takes 5 ms; or else the next deadline.
    var (toServer, toClient) = (new List<byte[]>(), new List<byte[]>());
    while (client.Emit(now, packet => toServer.Add(packet.ToArray())))
    {
    }
    while (server.Emit(now, packet => toClient.Add(packet.ToArray())))
    {
    }
    if (toServer.Count + toClient.Count > 0)
        now += TimeSpan.FromMilliseconds(5);
    else
        now = Instant.Max(now, Instant.Min(client.Stack.NextDeadline, server.Stack.NextDeadline));
    toServer.ForEach(packet => server.Receive(packet, now));
    toClient.ForEach(packet => client.Receive(packet, now));
    client.Stack.OnDeadline(now);
    server.Stack.OnDeadline(now);
}
Console.WriteLine($"closed; {client.Outstanding + server.Outstanding} frames and blocks are still out");
return answer == "Hello, stack!" && client.Outstanding + server.Outstanding == 0 ? 0 : 1;
