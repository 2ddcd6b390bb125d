"""One package a source framework: tracing and lowering to the graph."""
