"""What a Rule's actions come to for one event: pure, and the same for the runner, the API and the command line."""
