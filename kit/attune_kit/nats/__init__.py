"""NATS: one connection, one way to keep it, and one way to read the last message of each subject of a stream."""
