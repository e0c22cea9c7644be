"""How Alembic is run for every service's database (`runtime.schema`); their revisions lie in `<service>/migrations`."""
