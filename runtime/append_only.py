"""Tables whose rows are only ever inserted: triggers of the database refuse anything else, whoever asks for it.

    append_only(revisions)          # after the table is defined; whoever makes it makes its triggers (DDL)

A migration that makes such a table runs the same statements (`triggers`); `scripts/migration` writes them into it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import DDL, Table, event
from sqlalchemy.sql.ddl import ExecutableDDLElement

MARK: Final = "append_only"
"""In the `info` of a table of this kind."""
_VERBS: Final = {"sqlite": ("UPDATE", "DELETE"), "postgresql": ("UPDATE", "DELETE", "TRUNCATE")}
_FUNCTION: Final = (
    "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation'; END $$"
)


def append_only(table: Table) -> None:
    """Have the table refuse changes from its making on."""
    table.info[MARK] = True
    for dialect in _VERBS:
        for statement in triggers(table.name, dialect):
            event.listen(table, "after_create", _ddl(statement, dialect))


def triggers(table: str, dialect: str) -> tuple[str, ...]:
    """The statements that make the triggers of a table, in the SQL of the dialect."""
    if dialect == "sqlite":
        return tuple(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            for verb in _VERBS[dialect]
        )
    each = (
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        for verb in _VERBS[dialect]
    )
    return (_FUNCTION, *each)


def _ddl(statement: str, dialect: str) -> ExecutableDDLElement:
    # DDL() formats its text with %; its constructor has no annotations.
    made = DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]
    return made.execute_if(dialect=dialect)
