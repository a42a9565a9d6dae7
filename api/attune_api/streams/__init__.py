"""All that speaks NATS: the outbox that passes events on, and the reader of identity states."""
