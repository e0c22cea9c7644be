"""The running simulator, for commands that talk to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cli import output
from cli.state import Installation, existing
from runtime.secrets import read_secret
from switch.client import SwitchAdmin, admin_url


def controls(found: Installation) -> SwitchAdmin | None:
    """The simulator's controls; none before its first start."""
    token = found.home.secrets / "switch-admin-token"
    if not token.exists():
        return None
    url = admin_url(found.home, found.settings.switch)
    return SwitchAdmin(url, read_secret(token), ca=found.home.trust_anchors if url.startswith("https") else None)


@contextmanager
def running() -> Iterator[SwitchAdmin]:
    """The controls, closed at the end; a command ends here if the simulator has never run."""
    admin = controls(existing())
    if admin is None:
        output.fail("the simulator has never run here", hint="start it with 'kwbp serve'")
    with admin:
        yield admin
