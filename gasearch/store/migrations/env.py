"""How alembic runs the revisions: in the transaction of `gasearch.store.migrate`."""

from alembic import context

from gasearch.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
