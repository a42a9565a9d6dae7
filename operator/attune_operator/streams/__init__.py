"""JetStream as the Rule side uses it: one connection at a time, streams as defined, readers, a publisher that compares.

A connection here never mends itself. When it ends, everything that was made on it ends with it, and whoever ran on it
starts again from a snapshot: one way into a good state, the same after a start, a network fault, a server that was killed
and a stream that was wiped (design, "The rule stream").
"""
