"""The newest event of each rule, for sensors that go on from there."""
