"""What computing rests on, and knows nothing of pruning: devices, cores, memory, locks, progress, storage."""
