"""JetStream as the operator uses it: what its streams are, and a publisher that compares before it writes."""
