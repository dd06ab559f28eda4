// Each test wants both cores, and its lab to itself.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
