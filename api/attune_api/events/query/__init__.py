"""Finding events: pages, counts, single ones."""
