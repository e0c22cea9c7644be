"""How the tables of `ca.tables` came to be, one Alembic revision after another, on SQLite and PostgreSQL alike."""
