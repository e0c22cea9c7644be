"""`kwbp ca revoke`, `suspend`, `release`, `reasons`, `deadlines`: the status of certificates (CPS 4.9)."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import httpx
import typer

from ca.api import RevocationAnswer
from cli import enrolment, output
from cli.ca_service import CHANGE, LOOK, Named, moment, named, service, utc
from cli.enrolment import now
from cli.output import plain
from cli.packs import statement
from cli.state import existing, installation
from cps.model import HOLD, ORDER_REASONS, RELEASE, OrderReason, RevocationRule
from ra.officer import draft_revocation
from runtime.problems import Problem

AsPerson = Annotated[str, typer.Option("--as", help="The officer who orders it; the key must be on this machine.")]
PassphraseFile = Annotated[
    Path | None, typer.Option(help="File of mode 0600 with the officer's passphrase; without it you are asked.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=CHANGE)(revoke)
    app.command(rich_help_panel=CHANGE)(suspend)
    app.command(rich_help_panel=CHANGE)(release)
    app.command(rich_help_panel=LOOK)(reasons)
    app.command(rich_help_panel=LOOK)(deadlines)


def revoke(
    certificate: Named,
    person: AsPerson,
    reason: Annotated[str, typer.Option(help="Why; 'kwbp ca reasons' shows them, with who may and how fast it is.")],
    passphrase_file: PassphraseFile = None,
    doubted_from: Annotated[
        datetime | None, typer.Option(help="Since when the key is to be doubted (UTC): invalidityDate on lists.")
    ] = None,
) -> None:
    """Revoke a certificate for good. What is shown is what the officer signs."""
    wanted = next((each for each in ORDER_REASONS if each == reason and each not in {HOLD, RELEASE}), None)
    if wanted is None:
        output.fail(
            f"{reason!r} is no reason to revoke", hint="reasons: 'kwbp ca reasons'; to suspend: 'kwbp ca suspend'"
        )
    _order(certificate, wanted, person, passphrase_file, utc(doubted_from))


def suspend(certificate: Named, person: AsPerson, passphrase_file: PassphraseFile = None) -> None:
    """Suspend a certificate: it counts as revoked until it is released, or until the statement revokes it."""
    _order(certificate, HOLD, person, passphrase_file)


def release(certificate: Named, person: AsPerson, passphrase_file: PassphraseFile = None) -> None:
    """Take a suspension back: the certificate is good again with the next list."""
    _order(certificate, RELEASE, person, passphrase_file)


def reasons() -> None:
    """Show the reasons for orders: who may give them, and by when the list must be out."""
    rules = statement(installation()).revocation
    output.table(
        "Reasons (CPS 4.9)",
        ("Reason", "Does", "Ordered by", "Published within", "Clause"),
        [
            (reason, _verb(reason), _who(rule), _lasts(rule.deadline), f"CPS {rule.section}")
            for reason, rule in rules.items()
        ],
        document=[
            {
                "reason": reason,
                "does": _verb(reason),
                "by": list(rule.steps[0].by),
                "by_holder": rule.by_holder,
                "by_issuer_bank": rule.by_issuer_bank,
                "deadline_seconds": int(rule.deadline.total_seconds()),
                "denylists_key": rule.denylist_key,
                "clause": f"CPS {rule.section}",
            }
            for reason, rule in rules.items()
        ],
    )


def deadlines(
    overdue: Annotated[bool, typer.Option("--overdue", help="Only those that are late.")] = False,
) -> None:
    """Show changes of status that no list covers yet, the most urgent first. Usually there are none.

    If one stays, its list cannot be signed: see 'kwbp status', then 'kwbp ca crl --issue AUTHORITY'.
    """
    with service(existing()) as client:
        found = client.to_publish("overdue" if overdue else "due")
    if not found and not output.json_wanted():
        output.emit({}, ["Nothing waits: every change of status is on a list."])
        return
    output.table(
        "Not published yet",
        ("Issuer", "Serial", "Change", "Reason", "Ordered", "Due", "Urgency"),
        [
            (each.issuer, each.serial, each.state, each.reason, moment(each.at), moment(each.due_at), each.urgency)
            for each in found
        ],
        document=[each.model_dump(mode="json") for each in found],
    )


def _order(
    text: str,
    reason: OrderReason,
    person: str,
    passphrase_file: Path | None,
    doubted_from: datetime | None = None,
) -> None:
    found = existing()
    signer, tls = enrolment.officer(found, person, passphrase_file)
    rule = statement(found).revocation[reason]
    with service(found, tls) as client:
        target = named(client, text)
        draft = draft_revocation(target.parsed(), reason, now=now(), invalidity_date=doubted_from)
        for line in draft.lines:
            output.note(plain(line))
        output.note(plain(f"  deadline   published within {_lasts(rule.deadline)} (CPS {rule.section})"))
        order = signer.sign(draft, now=now())
        try:
            answer = client.revoke(order)
        except Problem as problem:
            if not isinstance(problem.__cause__, httpx.ReadTimeout):
                raise
            output.fail(
                f"{problem}; the order may be on record all the same",
                hint=f"'kwbp ca show {target.serial}' shows whether it is, 'kwbp ca deadlines' whether it is published",
            )
    output.emit(answer.model_dump(mode="json"), _lines(answer))


def _lines(answer: RevocationAnswer) -> list[str]:
    state = "good again: it was released" if answer.state == "released" else f"{answer.state} ({answer.reason})"
    told = f"Certificate {answer.serial} of {answer.issuer} is {state}, by order of {plain(answer.ordered_by)}."
    if answer.crl_number is None:
        return [
            told,
            f"It is on record, but not on a list yet: the token is away. Due by {moment(answer.due_at)}; "
            "'kwbp ca deadlines' shows whether it is out.",
        ]
    return [told, f"List {answer.crl_number} ({answer.crl_scope}) shows it, which was due by {moment(answer.due_at)}."]


def _verb(reason: str) -> str:
    return {HOLD: "suspends", RELEASE: "releases"}.get(reason, "revokes")


def _who(rule: RevocationRule) -> str:
    others = [*(["the holder"] if rule.by_holder else []), *(["the issuer bank"] if rule.by_issuer_bank else [])]
    step = rule.steps[0]
    persons = " or ".join(step.by)
    return ", or ".join([f"{step.count} × {persons}" if step.count > 1 else persons, *others])


def _lasts(time: timedelta) -> str:
    hours = time.total_seconds() / 3600
    return f"{hours:g} hours" if hours < 48 else f"{hours / 24:g} days"
