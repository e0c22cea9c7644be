"""`kwbp key versions|rotate|enable|disable|destroy|keep|limit`: what becomes of a key after it was made."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
import typer

from cli import key_approval, output
from cli.enrolment import now
from cli.key_service import CHANGE, LOOK, service, standing
from cli.state import existing
from hsm_service.client import HsmClient
from hsm_service.operation_info import ApprovalNeeded
from hsm_service.service import KeyInfo

_AHEAD: Final = re.compile(r"\+([0-9]{1,6})([mhd])")
_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_LIMITS: Final = ("uses", "rate", "burst", "not-before", "not-after")


def when(text: str) -> datetime:
    """A time (aware UTC) as people write it: RFC 3339 with an offset, or from now on: +30m, +2h, +7d."""
    ahead = _AHEAD.fullmatch(text)
    if ahead is not None:
        return now() + int(ahead[1]) * _UNITS[ahead[2]]
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter("a time is 2026-12-01T00:00Z (with its offset), or +30m, +2h, +7d from now") from None


Name = Annotated[str, typer.Argument(help="Name of the key.")]
Version = Annotated[int, typer.Argument(help="Number of the version: see 'kwbp key versions'.", min=1)]
Reason = Annotated[str, typer.Option(help="Why, for the officers who approve it.")]
_TIME: Final = {"parser": when, "metavar": "TIME"}


def versions(name: Name) -> None:
    """Show every version of a key: which is in use, which is to come and which only opens what was sealed to it."""
    with service(existing()) as keys:
        found = keys.list_versions(name)
    output.table(
        f"Versions of {name}",
        ("Version", "State", "From", "Until", "Tokens", "Uses"),
        [
            (
                info.version,
                standing(info, dated=False),
                _minute(info.activates_at),
                _minute(info.destroy_at or info.retires_at),
                ", ".join((info.token, *info.replicas)),
                info.uses,
            )
            for info in found
        ],
        document=[msgspec.to_builtins(info) for info in found],
    )


def rotate(
    name: Name,
    at: Annotated[
        datetime | None, typer.Option(help="When it begins, as 2026-12-01T00:00Z or +2h; else at once.", **_TIME)
    ] = None,
    reason: Reason = "",
) -> None:
    """Make the next version of a key in its token, once officers approved it.

    It begins at the time you name, without restart of anything. If it carries certificates it waits for its own: ask
    for one now. From then on the version before signs nothing new; what was sealed to it is still opened.
    """
    _act(lambda keys: keys.rotate(name, activate_at=at, reason=reason))


def enable(name: Name, version: Version, reason: Reason = "") -> None:
    """Put a version back into use, once officers approved it."""
    _act(lambda keys: keys.enable(name, version, reason=reason))


def disable(name: Name, version: Version, reason: Reason = "") -> None:
    """Take a version out of use at once. Needs no second person, because it may be urgent; 'enable' takes it back."""
    _act(lambda keys: keys.disable(name, version, reason=reason))


def destroy(
    name: Name,
    version: Version,
    at: Annotated[
        datetime | None, typer.Option(help="When, a day ahead at least; else in thirty days.", **_TIME)
    ] = None,
    reason: Reason = "",
) -> None:
    """Have a disabled version destroyed in its tokens at a date, once officers approved it. Until then 'keep' saves it.

    Nobody can undo it afterwards: what was sealed to the version is lost then.
    """
    _act(lambda keys: keys.destroy(name, version, at=at, reason=reason))


def keep(name: Name, version: Version, reason: Reason = "") -> None:
    """Take back a destruction that is scheduled, once officers approved it; the version stays disabled."""
    _act(lambda keys: keys.keep(name, version, reason=reason))


def limit(
    name: Name,
    version: Annotated[int | None, typer.Option(help="Which version; else the one in use.", min=1)] = None,
    uses: Annotated[int | None, typer.Option(help="Operations in all.", min=0)] = None,
    rate: Annotated[float | None, typer.Option(help="Operations a second, in the long run.")] = None,
    burst: Annotated[int | None, typer.Option(help="Operations at once.", min=1)] = None,
    not_before: Annotated[datetime | None, typer.Option(help="From when it serves.", **_TIME)] = None,
    not_after: Annotated[datetime | None, typer.Option(help="Until when.", **_TIME)] = None,
    lift: Annotated[
        list[str] | None, typer.Option(help=f"A limit of its template that it shall not have: {', '.join(_LIMITS)}.")
    ] = None,
    reason: Reason = "",
) -> None:
    """Give a version limits of its own in place of those it had, once officers approved it. None: its template's."""
    lifted = [each.replace("-", "_") for each in lift or ()]
    if unknown := {*lifted} - {each.replace("-", "_") for each in _LIMITS}:
        output.fail(f"there is no limit {', '.join(sorted(unknown))}", hint=f"there are {', '.join(_LIMITS)}")
    given = {"uses": uses, "rate": rate, "burst": burst, "not_before": not_before, "not_after": not_after}
    limits: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    limits |= dict.fromkeys(lifted)
    _act(lambda keys: keys.limit(name, limits, version=version, reason=reason))


def register(app: typer.Typer) -> None:
    """Add the commands to `kwbp key`."""
    app.command(rich_help_panel=LOOK)(versions)
    for command in (rotate, enable, disable, destroy, keep, limit):
        app.command(rich_help_panel=CHANGE)(command)


def _minute(time: str | None) -> str | None:
    return None if time is None else datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")


def _act(ask: Callable[[HsmClient], KeyInfo]) -> None:
    """Ask, and tell what came of it: done, or the request and what officers run next."""
    with service(existing()) as keys:
        try:
            info = ask(keys)
        except ApprovalNeeded as needed:
            key_approval.report([needed.operation])
            return
    output.emit(msgspec.to_builtins(info), [f"{info.name} version {info.version}: {standing(info)}."])
