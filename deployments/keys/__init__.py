"""API keys: what they are, what they may do, how much, and where they are kept."""
