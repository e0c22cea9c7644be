"""The published versions of the CPS of an installation, as services and commands read them."""

from __future__ import annotations

from datetime import UTC, datetime

from ca.published_trust import published_trust
from cli.state import Installation
from cps.model import Pack
from statements.published import PublishedStatements


def statements(found: Installation, service: str | None = None) -> PublishedStatements:
    """The register as `service` believes it, which keeps a copy of its own; a command reads and keeps nothing."""
    home = found.home
    return PublishedStatements(
        home.cps,
        own=None if service is None else home.db / f"statements-{service}",
        trust=lambda: published_trust(home.pki),
        clock=_now,
    )


def statement(found: Installation) -> Pack:
    """The version in force."""
    return statements(found)().in_force(_now())


def _now() -> datetime:
    return datetime.now(UTC)
