"""The engine: sequences, KV blocks, prefix cache, scheduler, executors, sampler."""
