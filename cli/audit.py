"""`kwbp audit`: the journals in which every service records what it did."""

from __future__ import annotations

import typer

from audit import AuditError
from audit.verify import verify
from cli import output
from cli.state import existing

app = typer.Typer(help="The audit journals.", no_args_is_help=True)


@app.command("verify")
def verify_journals() -> None:
    """Verify every journal of this installation offline: no entry altered, removed, inserted or reordered."""
    found = existing()
    rows: list[tuple[str, int | None, str]] = []
    broken = False
    for path in sorted(found.home.audit.glob("*.jsonl")):
        try:
            report = verify(path)
            rows.append((path.stem, report.head.size, "whole"))
        except AuditError as error:
            broken = True
            rows.append((path.stem, None, str(error)))
    output.table("Journals", ("Service", "Entries", "State"), rows)
    if broken:
        raise typer.Exit(1)
