"""What alembic runs for every command: the migrations, on the connection that `migrate` has."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    render_as_batch=connection.dialect.name == "sqlite",  # which cannot change a column in place
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
