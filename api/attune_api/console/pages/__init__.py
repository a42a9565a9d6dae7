"""One module for each page: what it reads, with the caller's rights, and which template shows it."""
