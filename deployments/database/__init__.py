"""The database of jobs, keys and usage: SQLite, or PostgreSQL for many nodes."""
