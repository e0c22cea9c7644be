"""`kwbp gateway status`: the gateway at one look."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import typer

from cli import enrolment, output
from cli.state import existing
from runtime.client import raise_problem
from runtime.language import Message


def add_to(app: typer.Typer) -> None:
    """Hang the command into `kwbp gateway`."""
    app.command()(status)


def status() -> None:
    """Show the gateway at one look: ready or why not, lines, what is open and since when, days, ages of keys."""
    found = existing()
    with found.client(found.settings.gateway.url) as client:
        shown: dict[str, Any] = raise_problem(client.get("/v1/status")).json()
    output.emit(shown, [output.said(each) for each in _lines(shown, enrolment.now())])


def _lines(shown: dict[str, Any], now: datetime) -> list[Message]:
    reasons = ", ".join(shown["reasons"])
    lines = [Message("Ready.") if shown["ready"] else Message("Not ready: {reasons}.", reasons=reasons)]
    if shown["ready"] and reasons:
        lines.append(Message("Somebody should look: {reasons}.", reasons=reasons))
    lines += [
        Message("Line {name}: signed on.", name=name) if up else Message("Line {name}: down.", name=name)
        for name, up in shown["lines"].items()
    ]
    lines += [
        Message("The clock is {seconds} s ahead of that of {name}.", seconds=ahead, name=name)
        if ahead > 0
        else Message("The clock is {seconds} s behind that of {name}.", seconds=-ahead, name=name)
        for name, ahead in shown["clocks"].items()
        if ahead
    ]
    lines.append(
        Message(
            "Orders: {unknown} unknown, {waiting} reversals waiting, {handed} for a person, {working} at work.",
            unknown=shown["unknown"],
            waiting=shown["reversals_waiting"],
            handed=shown["handed_over"],
            working=shown["working"],
        )
    )
    if shown["oldest_open_since"] is not None:
        age = _age(shown["oldest_open_since"], now)
        lines.append(Message("The oldest of them is {age} old.", age=age))
    if shown["days_open"]:
        lines.append(
            Message("Days open: {days}, the oldest {day}.", days=shown["days_open"], day=shown["oldest_day_open"])
        )
    else:
        lines.append(Message("No day is open."))
    if shown["zone_keys"] is None:
        lines.append(Message("The zone keys cannot be asked for now."))
    for key in shown["zone_keys"] or ():
        age = _age(key["since"], now)
        lines.append(
            Message(
                "Key {key} {index} ({zone}): {age} old.", zone=key["zone"], key=key["key"], index=key["index"], age=age
            )
        )
    return lines


def _age(since: str, now: datetime) -> str:
    return str(timedelta(seconds=max(0, int((now - datetime.fromisoformat(since)).total_seconds()))))
