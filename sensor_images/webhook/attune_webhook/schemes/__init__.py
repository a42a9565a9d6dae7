"""How senders show that they may send: schemes as data (:mod:`.presets`) over a few generic checks."""
