"""The Rules as the operator says them on NATS, and which of them a sensor may report events for."""
