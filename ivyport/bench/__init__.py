"""Is the port faster? Latency of ports against torch, measured so that people believe it.

The driver (`runner`) imports no framework. For each case it starts a process that builds
the model, its inputs and torch's own outputs, one process a target that ports it, and one
process an engine (`worker`) that loads the same weights, proves its outputs and is then
timed in interleaved rounds. `docs/bench.md` says what is measured and how.
"""
