"""How the tables of `gateway.tables` came to be, one Alembic revision after another, on SQLite and PostgreSQL."""
