using System.Reflection;

namespace Xdp.TcpLite.Tests;

public class FlightTests
{
    private const BindingFlags Fields = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic;

    [Fact]
    public void Clear_EveryFieldUsed_IsAsNew()
    {
        var flight = new Flight();
        Use(flight);
        flight.Clear();
        AssertSame(new Flight(), flight);
        Assert.Equal((0, 0, 0), (flight.Queue.Count, flight.Queue.Bytes, flight.Queue.UnsentBytes));
    }

    /// <summary>Gives every field another value, those of its parts too. The queue has tests of its own.</summary>
    private static void Use(object target)
    {
        foreach (FieldInfo field in target.GetType().GetFields(Fields))
        {
            if (field.FieldType == typeof(LossRecovery))
                Use(field.GetValue(target)!);
            else if (field.FieldType != typeof(SendQueue))
                field.SetValue(target, Used(field.FieldType));
        }
    }

    private static object Used(Type type)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        if (type == typeof(bool))
            return true;
        if (type.IsEnum)
            return Enum.ToObject(type, 1);
        if (type.IsPrimitive)
            return Convert.ChangeType(7, type, null);
        object value = Activator.CreateInstance(type)!;
        if (type.IsValueType)
        {
            foreach (FieldInfo field in type.GetFields(Fields))
                field.SetValue(value, Used(field.FieldType));
        }
        return value;
    }

    private static void AssertSame(object expected, object actual)
    {
        foreach (FieldInfo field in expected.GetType().GetFields(Fields))
        {
            object? value = field.GetValue(actual);
            if (value is SendQueue)
                continue;
            if (value is Queue<(SeqNumber, Instant)> spare)
                Assert.Empty(spare);
            else if (value is LossRecovery or Rack)
                AssertSame(field.GetValue(expected)!, value);
            else
                Assert.True(Equals(field.GetValue(expected), value), field.Name);
        }
    }

    [Fact]
    public void Borrow_AfterReturn_GivesTheSameAgain()
    {
        var pool = new LendingPool<Flight>(1);
        Flight first = pool.Borrow(), second = pool.Borrow();
        Assert.NotSame(first, second);
        pool.Return(first);
        pool.Return(second); // one too many
        Assert.Same(first, pool.Borrow());
        Assert.NotSame(second, pool.Borrow());
    }
}
