"""Ways in which a Rule does not fire, made to happen on a real cluster, and how soon each is told: ``make ways``."""
