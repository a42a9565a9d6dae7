"""Who is calling, and what they may do. No other package looks at a token."""
