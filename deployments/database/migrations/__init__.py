"""The revisions of the database's tables, as alembic runs them."""
