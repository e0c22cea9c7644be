"""Write `ca/migrations/versions/0001_tables.py` from `ca/tables.py`, as `scripts/ca-migration` says."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Literal

from alembic.autogenerate import render_python_code
from alembic.operations.ops import CreateIndexOp, CreateTableOp, UpgradeOps
from mako.template import Template

from ca.schema import HEAD, MIGRATIONS
from ca.tables import UtcTime, metadata


def main() -> None:
    """Write down all tables, each after those it refers to, with their indexes."""
    operations = UpgradeOps([])
    for table in metadata.sorted_tables:
        operations.ops.append(CreateTableOp.from_table(table))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        operations.ops.extend(CreateIndexOp.from_index(index) for index in indexes)
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
