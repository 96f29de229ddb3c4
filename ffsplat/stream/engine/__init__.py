"""What runs a mapper beside the world: a queue, a worker, counts, checkpoints, logs."""
