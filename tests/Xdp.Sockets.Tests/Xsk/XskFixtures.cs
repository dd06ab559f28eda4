using Xdp.Sockets.Tests.Support;

namespace Xdp.Sockets.Tests;

/// <summary>Tests that make namespaces and load programs run one after the other.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public class NetworkCollection
{
    public const string Name = "network";
}

internal static class XskFixtures
{
    internal static XskOptions Options(
        int interfaceIndex, int txRingSize = 2048, int completionRingSize = 0, int maxTxBudget = 0,
        int queueId = 0, BindMode mode = BindMode.Copy, int rxRingSize = 64, int fillRingSize = 64,
        double bindSeconds = 2, bool multiBuffer = false) => new()
        {
            InterfaceIndex = interfaceIndex,
            QueueId = queueId,
            RxRingSize = rxRingSize,
            FillRingSize = fillRingSize,
            TxRingSize = txRingSize,
            CompletionRingSize = completionRingSize,
            MaxTxBudget = maxTxBudget,
            BindMode = mode,
            MultiBuffer = multiBuffer,
            BindTimeout = TimeSpan.FromSeconds(bindSeconds),
        };

    /// <summary>Writes numbered frames, one per UMEM frame, and puts them on TX.</summary>
    internal static void Post(this Xsk xsk, int first, int count, int length = 60)
    {
        Assert.Equal((uint)count, xsk.Tx.Reserve((uint)count, out uint index));
        for (int i = 0; i < count; i++)
        {
            ulong address = xsk.Umem.AddressOf((first + i) % xsk.Umem.FrameCount) + 256;
            PacketSocket.Write(xsk.Umem.GetSpan(address, length), first + i);
            xsk.Tx[unchecked(index + (uint)i)] = new XdpDescriptor { Address = address, Length = (uint)length };
        }
        xsk.Tx.Submit((uint)count);
    }

    internal static ulong[] TakeCompletions(this Xsk xsk)
    {
        ulong[] addresses = new ulong[xsk.Completion.Size];
        return addresses[..(int)xsk.Completion.Take(addresses)];
    }

    internal static void AssertReceives(this PacketSocket peer, int number, int length = 60)
    {
        byte[]? frame = peer.Receive();
        Assert.True(frame is not null, $"frame {number} did not arrive");
        Assert.Equal(PacketSocket.Frame(number, length), frame);
    }
}
