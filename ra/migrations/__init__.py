"""How the tables that `ra.database` names came to be, one Alembic revision after another, on SQLite and PostgreSQL."""
