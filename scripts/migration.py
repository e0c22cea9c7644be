"""Write `<service>/migrations/versions/0001_tables.py` from the service's tables, as `scripts/migration` says."""

from __future__ import annotations

import argparse
import subprocess
import sys
import textwrap
from importlib import import_module
from typing import Any, Final, Literal

from alembic.autogenerate import render_python_code
from alembic.operations.ops import CreateIndexOp, CreateTableOp, MigrateOperation, UpgradeOps
from mako.template import Template
from sqlalchemy import TypeDecorator

from runtime.append_only import MARK, triggers
from runtime.schema import AROUND, Schema

_SCHEMAS: Final = {"ca": "ca.schema", "gateway": "gateway.tables", "ra": "ra.database"}
_DIALECTS: Final = ("sqlite", "postgresql")


def main() -> None:
    """Write down all tables of a service, each after those it refers to, with their indexes and triggers."""
    parser = argparse.ArgumentParser(prog="scripts/migration", description=__doc__)
    parser.add_argument("service", choices=tuple(_SCHEMAS))
    service = parser.parse_args().service
    schema: Schema = import_module(_SCHEMAS[service]).SCHEMA
    body = render_python_code(UpgradeOps(_operations(schema)), render_item=render)
    kept = [line for line in body.splitlines() if not line.lstrip().startswith("# ###")]
    page = Template(filename=str(AROUND / "script.py.mako")).render(  # noqa: S702  # Python, not HTML
        message="The tables of the first release",
        imports="",
        up_revision=schema.head,
        down_revision=None,
        branch_labels=None,
        depends_on=None,
        upgrades="\n".join(kept).strip() + _triggers(schema),
    )
    written = schema.folder / "versions" / f"{schema.head}_tables.py"
    written.parent.mkdir(exist_ok=True)
    written.write_text(page, encoding="utf-8")
    for step in (["format"], ["check", "--fix"], ["format"]):
        subprocess.run([sys.executable, "-m", "ruff", *step, "-q", str(written)], check=True)
    print(f"wrote {written.name}")


def render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """A type of our own as it is stored: a revision must not change with the class that reads it."""
    return f"sa.{item.impl_instance!r}" if kind == "type" and isinstance(item, TypeDecorator) else False


def _operations(schema: Schema) -> list[MigrateOperation]:
    operations: list[MigrateOperation] = []
    for table in schema.metadata.sorted_tables:
        operations.append(CreateTableOp.from_table(table))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        operations.extend(CreateIndexOp.from_index(index) for index in indexes)
    return operations


def _triggers(schema: Schema) -> str:
    """The statements for tables that refuse changes, in the SQL of the database that is at hand."""
    guarded = [table.name for table in schema.metadata.sorted_tables if table.info.get(MARK)]
    if not guarded:
        return ""
    lines = ["", "    dialect = op.get_bind().dialect.name"]
    for dialect in _DIALECTS:
        statements = dict.fromkeys(each for table in guarded for each in triggers(table, dialect))
        lines.append(f"    if dialect == {dialect!r}:")
        lines.extend(f"        op.execute({_in_lines(each)})" for each in statements)
    return "\n".join(lines)


def _in_lines(statement: str) -> str:
    return "\n".join(map(repr, textwrap.wrap(statement, 80, drop_whitespace=False)))


if __name__ == "__main__":
    main()
