"""Revisions of the schema, for alembic; `gasearch.store.migrate` runs them."""
