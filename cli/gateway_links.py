"""`kwbp gateway links|routes`: the lines to switch and hosts, and which cards go where."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import typer

from cli import enrolment, output
from cli.state import existing
from runtime.client import raise_problem

_COLUMNS: Final = (
    "Connector",
    "Line",
    "Address",
    "State",
    "Since",
    "In flight",
    "Sent",
    "Received",
    "Refused",
    "p50 ms",
    "p99 ms",
)


def add_to(app: typer.Typer) -> None:
    """Hang the commands into `kwbp gateway`."""
    app.command()(links)
    app.command()(routes)


def links() -> None:
    """Show the lines to the switch and to further hosts: state, traffic, round trips."""
    rows = _asked("/v1/links")
    now = enrolment.now()
    output.table(
        "Lines",
        _COLUMNS,
        [
            (
                row["connector"],
                row["line"],
                row["address"] + (" TLS" if row["tls"] else ""),
                row["state"],
                str(timedelta(seconds=int((now - datetime.fromisoformat(row["since"])).total_seconds()))),
                row["in_flight"],
                row["sent"],
                row["received"],
                row["refused"],
                row["p50_ms"],
                row["p99_ms"],
            )
            for row in rows
        ],
        document=rows,
    )


def routes() -> None:
    """Show which cards go to which connector; the longest prefix wins."""
    rows = _asked("/v1/routes")
    output.table(
        "Routes",
        ("Prefix", "Connector", "Signed on"),
        [(row["prefix"] or "*", row["connector"] or "-", row["signed_on"]) for row in rows],
        document=rows,
    )


def _asked(path: str) -> list[dict[str, Any]]:
    found = existing()
    with found.client(found.settings.gateway.url) as client:
        rows: list[dict[str, Any]] = raise_problem(client.get(path)).json()
    return rows
