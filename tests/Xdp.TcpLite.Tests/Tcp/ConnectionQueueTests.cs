using System.Runtime.CompilerServices;

namespace Xdp.TcpLite.Tests;

public class ConnectionQueueTests
{
    [Fact]
    public void Queue_RandomOperations_BehavesAsAQueue()
    {
        var random = new Random(6);
        var queue = new ConnectionQueue();
        var model = new Queue<TcpConnection>();
        for (int i = 0; i < 20_000; i++)
        {
            // It fills up, beyond what it has room for, and empties in turns.
            bool filling = i / 500 % 2 == 0;
            if (random.Next(4) == 0 != filling)
            {
                var connection = (TcpConnection)RuntimeHelpers.GetUninitializedObject(typeof(TcpConnection));
                queue.Enqueue(connection);
                model.Enqueue(connection);
            }
            else if (model.Count > 0)
            {
                Assert.Same(model.Peek(), queue.First);
                Assert.Same(model.Dequeue(), queue.Dequeue());
            }
            Assert.Equal(model.Count == 0, queue.IsEmpty);
        }
    }
}
