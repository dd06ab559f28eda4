using Kestrel.Transport.Xdp.Internal.Connections;
using Xdp.TcpLite;

namespace Kestrel.Transport.Xdp.Internal.Queues;

/// <summary>
/// The ways to peers that a queue's stack uses. Owns what the kernel has said of them, and the packets and connections
/// that wait for what it has not said yet. The turn's.
/// </summary>
/// <remarks>
/// What the kernel has said holds until something changes in its tables. Then all of it is forgotten, and asked again
/// for each connection.
/// </remarks>
/// <param name="ask">Has the kernel asked. Answered by <see cref="Answer"/>.</param>
/// <param name="counters">The queue's.</param>
internal sealed class QueueRoutes(Action<FlowKey> ask, QueueCounters counters) : IRoutes
{
    private const int MostRoutes = 65_536;
    private const int MostQuestions = 1024;

    // Of all questions, and of one.
    private const int MostPackets = 1024, MostPacketsOfOne = 64;

    private readonly Dictionary<Key, HostRoute> _routes = [];
    private readonly Dictionary<Key, Question> _questions = [];

    // Questions that wait for a neighbour to be found, the oldest first. Some may be answered.
    private readonly Queue<Question> _postponed = new();
    private PeerClasses _classes = PeerClasses.None;
    private int _packets;

    /// <summary>A class of peers, or one, as the kernel tells them apart.</summary>
    private readonly record struct Key(
        IpAddr Local, IpAddr Peers, int Length, ushort LocalPort, ushort RemotePort);

    /// <summary>What waits for an answer.</summary>
    private sealed class Question(in FlowKey flow)
    {
        internal readonly FlowKey Flow = flow;
        internal readonly List<WaitingPacket> Packets = [];
        internal readonly List<QueueSide> Connections = [];
    }

    /// <summary>A packet whose peer's route is not known yet.</summary>
    /// <param name="Packet">A copy in heap blocks.</param>
    /// <param name="Visited">Queues that do not know its flow.</param>
    internal readonly record struct WaitingPacket(BlockQueue Packet, int Visited);

    public Route? Find(in FlowKey flow, bool ask)
    {
        if (Known(flow) is { } route)
            return route;
        if (ask)
            Ask(flow);
        return null;
    }

    /// <summary>So much is asked already that a flood is likely.</summary>
    public bool IsBusy => _questions.Count >= MostQuestions / 2;

    /// <summary>What is known.</summary>
    internal HostRoute? Known(in FlowKey flow) =>
        _routes.GetValueOrDefault(KeyOf(flow))
        ?? (_classes.Find(flow.Remote) is { } peers
            ? _routes.GetValueOrDefault(KeyOf(flow, peers.Prefix, peers.Length))
            : null);

    /// <summary>Keeps a packet until the answer has come. False when too many wait: it is the caller's.</summary>
    internal bool TryKeep(in BlockQueue packet, int visited, in FlowKey flow)
    {
        if (_packets >= MostPackets || QuestionOf(flow) is not { } question
            || question.Packets.Count >= MostPacketsOfOne)
        {
            return false;
        }
        question.Packets.Add(new(packet, visited));
        _packets++;
        return true;
    }

    /// <summary>
    /// The connection learns its route anew. It keeps the one that it has until the kernel has said it. False when too
    /// much is asked already.
    /// </summary>
    internal bool TryRenew(QueueSide connection)
    {
        if (Find(connection.Flow, ask: true) is { } route)
            Redirect(connection, route);
        else if (QuestionOf(connection.Flow) is { } question)
            question.Connections.Add(connection);
        else
            return false;
        return true;
    }

    /// <summary>A neighbour has to be found before the question is answered, and may not be there.</summary>
    internal void Postpone(in FlowKey flow)
    {
        if (QuestionOf(flow) is { } question)
            _postponed.Enqueue(question);
    }

    /// <summary>The connection's segments go this way; null leaves them where they go.</summary>
    internal void Redirect(QueueSide connection, Route? route)
    {
        if (connection.TakeRoute(route))
            counters.Redirected++;
    }

    /// <summary>The kernel has said it.</summary>
    /// <param name="flow">What was asked for.</param>
    /// <param name="answer">What it said.</param>
    /// <returns>
    /// Packets that waited for it, to be received now, or returned if there is no route. Connections have it.
    /// </returns>
    internal IReadOnlyList<WaitingPacket> Answer(in FlowKey flow, in RouteAnswer answer)
    {
        Learn(flow, answer);
        if (!_questions.Remove(KeyOf(flow), out Question? question))
            return [];
        _packets -= question.Packets.Count;
        foreach (QueueSide connection in question.Connections)
            Redirect(connection, answer.Route);
        return question.Packets;
    }

    /// <summary>The kernel has said something that nobody waits for.</summary>
    internal void Learn(in FlowKey flow, in RouteAnswer answer)
    {
        if (answer.Route is not { } route)
            return;
        if (_routes.Count >= MostRoutes)
            _routes.Clear();
        Key key = answer.HoldsForClass && _classes.Find(flow.Remote) is { } peers
            ? KeyOf(flow, peers.Prefix, peers.Length)
            : KeyOf(flow);
        _routes[key] = route;
    }

    /// <summary>What the kernel has said of the ways through a neighbour holds no more.</summary>
    internal void Forget(IpAddr hop)
    {
        Key[] through = [.. _routes.Where(route => route.Value.NextHop == hop).Select(static route => route.Key)];
        foreach (Key key in through)
            _routes.Remove(key);
    }

    /// <summary>The kernel's tables have changed: nothing that it has said holds any more.</summary>
    internal void Forget(PeerClasses classes)
    {
        _classes = classes;
        _routes.Clear();
        // Answers are still to come. What is one question now may have been several.
        Question[] questions = [.. _questions.Values];
        _questions.Clear();
        foreach (Question question in questions)
        {
            if (QuestionOf(question.Flow) is not { } same)
            {
                _questions.Add(KeyOf(question.Flow), question);
                continue;
            }
            same.Packets.AddRange(question.Packets);
            same.Connections.AddRange(question.Connections);
        }
    }

    /// <summary>The queue is closed: packets that wait are returned.</summary>
    internal void Clear()
    {
        foreach (Question question in _questions.Values)
        {
            foreach (WaitingPacket waiting in question.Packets)
                waiting.Packet.ReturnAll();
        }
        _questions.Clear();
        _postponed.Clear();
        _packets = 0;
    }

    private void Ask(in FlowKey flow)
    {
        Key key = KeyOf(flow);
        if (_questions.ContainsKey(key) || (_questions.Count >= MostQuestions && !TryDropPostponed()))
            return;
        _questions.Add(key, new Question(flow));
        ask(flow);
    }

    // Addresses that nobody has must not keep out those that somebody has. Connections are not dropped.
    private bool TryDropPostponed()
    {
        while (_postponed.TryDequeue(out Question? question))
        {
            if (QuestionOf(question.Flow) != question || question.Connections.Count > 0)
                continue;
            _questions.Remove(KeyOf(question.Flow));
            _packets -= question.Packets.Count;
            counters.RouteDropped += question.Packets.Count;
            foreach (WaitingPacket waiting in question.Packets)
                waiting.Packet.ReturnAll();
            return true;
        }
        return false;
    }

    private Question? QuestionOf(in FlowKey flow) => _questions.GetValueOrDefault(KeyOf(flow));

    // Of the peer alone.
    private Key KeyOf(in FlowKey flow) => KeyOf(flow, flow.Remote, PeerClasses.WholeAddress);

    private Key KeyOf(in FlowKey flow, IpAddr peers, int length) => new(
        flow.Local, peers, length, _classes.DependsOnPorts ? flow.LocalPort : (ushort)0,
        _classes.DependsOnPorts ? flow.RemotePort : (ushort)0);
}
