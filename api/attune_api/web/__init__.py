"""HTTP without events, rules or identities: problems, bodies, cursors, answers."""
