"""Write `ca/migrations/versions/0001_tables.py` from `ca/tables.py`, as `scripts/ca-migration` says."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Literal

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from mako.template import Template
from sqlalchemy import create_engine

from ca.schema import HEAD, MIGRATIONS
from ca.tables import UtcTime, metadata


def main() -> None:
    """Compare an empty database with the tables and write down what is missing: all of it."""
    with create_engine("sqlite://").connect() as db:
        context = MigrationContext.configure(
            db, opts={"target_metadata": metadata, "render_item": render, "user_module_prefix": None}
        )
        operations = produce_migrations(context, metadata).upgrade_ops
        assert operations is not None
        body = render_python_code(operations, render_item=render)
    body = "\n".join(line for line in body.splitlines() if not line.lstrip().startswith("# ###")).strip()
    page = Template(filename=str(MIGRATIONS / "script.py.mako")).render(  # noqa: S702  # Python, not HTML
        message="The tables of the first release",
        imports="",
        up_revision=HEAD,
        down_revision=None,
        branch_labels=None,
        depends_on=None,
        upgrades=body,
    )
    written = MIGRATIONS / "versions" / f"{HEAD}_tables.py"
    written.parent.mkdir(exist_ok=True)
    written.write_text(page, encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(written)], check=True)
    subprocess.run([sys.executable, "-m", "ruff", "check", "-q", "--fix", str(written)], check=True)
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(written)], check=True)
    print(f"wrote {written.name}")


def render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Times are text in every database; a revision must not change with the class that reads them."""
    return "sa.String(length=27)" if kind == "type" and isinstance(item, UtcTime) else False


if __name__ == "__main__":
    main()
