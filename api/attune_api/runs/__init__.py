"""Runs: what became of each action for each event. Stored from NATS, found, summed up, asked for again."""
