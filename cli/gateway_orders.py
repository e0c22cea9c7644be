"""`kwbp gateway orders|order|reverse|resolve|statements|limits`: orders, and what persons do to one."""

from __future__ import annotations

import base64
import re
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli import output, typed_days
from cli.gateway_officer import gateway_as
from cli.key_approval import PassphraseFile
from cli.state import existing
from runtime.client import raise_problem
from runtime.language import Message, Term


def _xid(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{40}", text):
        output.fail(
            Message("an XID has 40 hexadecimal digits"), hint=Message("'kwbp gateway orders' lists them"), code=2
        )
    return text.lower()


def reason(text: str | None) -> str | None:
    """What somebody wrote, if the gateway would keep it; typer's `callback`."""
    if text is not None and (not 3 <= len(text.strip()) <= 400 or re.search(r"[\x00-\x1f\x7f]", text)):
        output.fail(Message("a reason is a sentence of 3 to 400 characters, in one line: --reason"), code=2)
    return text


Xid = Annotated[str, typer.Argument(help="XID of the purchase, 40 hexadecimal digits.", callback=_xid)]
Merchant = Annotated[
    str | None, typer.Option("--merchant", help="Merchant id; needed if two merchants have an order of this XID.")
]
Person = Annotated[
    str | None,
    typer.Option(
        "--as",
        help="The officer who acts, as security_officer or ca_operator; the key is on this machine, or in a token that "
        "signs each act ('kwbp officer here' lists them). Without it the operator's console asks, and no person.",
    ),
]
_FACTS: Final = ("state", "amount", "auth_code", "rc", "stan", "rrn", "masked_pan", "reversal_reason", "changed_at")
_MARKS: Final = {"APPROVED": "green", "ACKED": "green", "DECLINED": "yellow", "REVERSED": "yellow"} | dict.fromkeys(
    ("UNKNOWN", "REV_FAILED", "DEBITED"), "red"
)


class State(StrEnum):
    """States of an order, as a person types them."""

    RECEIVED = "received"
    VERIFIED = "verified"
    SENT = "sent"
    APPROVED = "approved"
    DECLINED = "declined"
    UNKNOWN = "unknown"
    ACKED = "acked"
    REV_QUEUED = "rev-queued"
    REVERSED = "reversed"
    REV_FAILED = "rev-failed"
    DEBITED = "debited"


class Outcome(StrEnum):
    """What a bank tells of an order that could not be reversed."""

    REVERSED = "reversed"
    DEBITED = "debited"


def orders(
    state: Annotated[State | None, typer.Option(help="Only orders in this state.", case_sensitive=False)] = None,
    merchant: Annotated[str | None, typer.Option("--merchant", help="Only orders of this merchant.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=typed_days.moment, help=f"Received from then on (UTC): {typed_days.HELP} Or with 13:45."),
    ] = None,
    until: Annotated[datetime | None, typer.Option(parser=typed_days.moment, help="Received before (UTC).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many at most.")] = 50,
    after: Annotated[str | None, typer.Option(help="The page after this one: what the page before ended with.")] = None,
) -> None:
    """List orders, newest first."""
    found = existing()
    asked = {
        "state": None if state is None else state.name,
        "merchant_id": merchant,
        "since": None if since is None else since.isoformat(),
        "until": None if until is None else until.isoformat(),
        "limit": limit,
        "after": after,
    }
    with found.client(found.settings.gateway.url) as client:
        params = {name: value for name, value in asked.items() if value is not None}
        page = raise_problem(client.get("/v1/orders", params=params)).json()
    rows = [
        (
            moment(row["received_at"]),
            row["xid"],
            row["merchant_id"],
            row["state"],
            row["amount"],
            row["masked_pan"],
            row["rc"],
            row["reversal_attempts"] or None,
        )
        for row in page["orders"]
    ]
    columns = ("Received", "XID", "Merchant", "State", "Amount", "Card", "RC", "Attempts")
    output.table("Orders", columns, rows, document=page)
    if page["next"] is not None:
        output.note(output.said(Message("There are more: --after {place}", place=page["next"])))


def order(xid: Xid, merchant: Merchant = None) -> None:
    """Show an order: where it stands, what was asked about it, and its life step by step."""
    found = existing()
    with found.client(found.settings.gateway.url) as client:
        life = raise_problem(client.get(f"/v1/orders/{xid}/life", params=_of(merchant))).json()
        of = {"merchant_id": life["order"]["merchant_id"]}
        row = raise_problem(client.get(f"/v1/orders/{xid}", params=of)).json()
        asked = raise_problem(client.get(f"/v1/orders/{xid}/settlings", params=of)).json()
    lines = [
        f"  {output.said(Term('fact', name.replace('_', ' '))):<16} {output.plain(row[name])}"
        for name in _FACTS
        if row[name] is not None
    ]
    # What was asked for after the authorisation: captures, credits, their reversals, with what became of them.
    lines += [
        f"  {each['request']:<16} {output.plain(each['amount'])} {each['auth_code'] or each['state']}" for each in asked
    ]
    output.emit({**row, "settlings": asked, "life": life["steps"], "stated": life["stated"]}, lines + _timeline(life))


def reverse(
    xid: Xid,
    reason: Annotated[
        str, typer.Option(help="Why; it stays in the order's life and in the audit log.", callback=reason)
    ],
    merchant: Merchant = None,
    person: Person = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Queue an order's reversal, or queue it again after it was given up.

    The rules do not allow it once the merchant has acknowledged a sale: then its own signed request is for it.
    """
    found = existing()
    with gateway_as(found, person, passphrase_file) as client:
        body = {"reason": reason, **_of(merchant)}
        life = raise_problem(client.post(f"/v1/orders/{xid}/reversal", json=body)).json()
    output.done(output.said(Message("the reversal of {xid} is queued", xid=xid)))
    output.emit(life, _timeline(life))


def resolve(
    xid: Xid,
    outcome: Annotated[
        Outcome | None,
        typer.Option(help="reversed: the money is back on the card. debited: it is not.", case_sensitive=False),
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Who at the bank told it, when, by which reference.", callback=reason)
    ] = None,
    confirm: Annotated[bool, typer.Option("--confirm", help="Confirm what another person stated.")] = False,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Forget what was stated and not confirmed.")] = False,
    merchant: Merchant = None,
    person: Person = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """State what the bank told of an order whose reversal failed, as an officer; another officer confirms it.

    \b
    kwbp gateway resolve XID --outcome debited --reason "call 31 of the bank's desk" --as security-officer-2
    kwbp gateway resolve XID --outcome debited --confirm --as security-officer-1
    """
    found = existing()
    with gateway_as(found, person, passphrase_file) as client:
        if withdraw:
            asked = client.delete(f"/v1/orders/{xid}/resolution", params=_of(merchant))
        elif outcome is None:
            output.fail(Message("say what the bank told: --outcome reversed or debited"))
        elif confirm:
            asked = client.post(f"/v1/orders/{xid}/confirmation", json={"outcome": outcome, **_of(merchant)})
        elif reason is None:
            output.fail(Message("say how that is known: --reason"))
        else:
            body = {"outcome": outcome, "reason": reason, **_of(merchant)}
            asked = client.post(f"/v1/orders/{xid}/resolution", json=body)
        life = raise_problem(asked).json()
    if life["stated"] is not None and life["stated"]["confirmed_by"] is None:
        again = f"kwbp gateway resolve {xid} --outcome {life['stated']['outcome'].lower()} --confirm --as …"
        output.note(
            output.said(Message("it counts once an officer, another person, confirms it: {again}", again=again))
        )
    output.emit(life, _timeline(life))


def statements(
    out: Annotated[Path | None, typer.Option(help="Folder to write them to: NUMBER.p7s, and NUMBER.body.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many at most, newest first.")] = 50,
) -> None:
    """Show what officers signed to act at the gateway, or write it out as evidence.

    A statement of officers whose key is in a token is a CMS SignedData about one act: 'openssl cms -verify -inform DER
    -in 1.p7s -CAfile pki/root.pem -purpose any -out act.der' judges it. What it says is in act.der ('openssl asn1parse
    -inform DER -in act.der'): gateway, method, target, and the SHA-256 that 1.body has. A body of more than 64 KiB is
    not kept.
    """
    found = existing()
    with found.client(found.settings.gateway.url) as client:
        rows = raise_problem(client.get("/v1/officer-statements", params={"limit": limit})).json()
    for row in rows if out is not None else ():
        assert out is not None
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{row['number']}.p7s").write_bytes(base64.b64decode(row["statement"]))
        if row["body"] is not None:
            (out / f"{row['number']}.body").write_bytes(base64.b64decode(row["body"]))
    output.table(
        "Statements",
        ("Number", "At", "Person", "Act"),
        [(row["number"], moment(row["taken_at"]), row["person"], f"{row['method']} {row['target']}") for row in rows],
        document=rows,
    )


def limits() -> None:
    """Show the rules of limits in force: what they count, in which window, how much, and why.

    They are in the file that 'limits' in [gateway] of kwbp.toml names; a changed file is taken up without a restart.
    """
    found = existing()
    with found.client(found.settings.gateway.url) as client:
        rules = raise_problem(client.get("/v1/limits")).json()
    language = "en" if output.json_wanted() else output.language().value
    output.table(
        "Limits",
        ("Rule", "For", "Window", "Rial", "Orders", "When", "Why"),
        [
            (
                rule["name"],
                rule["subject"],
                rule["window"],
                rule["amount"],
                rule["orders"],
                "; ".join(f"{name} {', '.join(values)}" for name, values in rule["when"].items()) or None,
                rule["because"].get(language, rule["because"]["en"]),
            )
            for rule in rules
        ],
        document=rules,
    )


def _of(merchant: str | None) -> dict[str, str]:
    return {} if merchant is None else {"merchant_id": merchant}


def _timeline(life: dict[str, Any]) -> list[str]:
    """One line a step: when, which state, what else is known."""
    steps = life["steps"]
    lines = []
    for at, step in enumerate(steps):
        mark, colour = "└" if at == len(steps) - 1 else "├", _MARKS.get(step["state"], "cyan")
        more = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in step["what"].items())
        lines.append(f"  {mark} {moment(step['at'])}  [{colour}]{step['state']:<10}[/{colour}] {output.plain(more)}")
    return lines


def moment(text: str) -> str:
    """A time of the gateway's, to the second, as people read it (UTC)."""
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S}"


def register(app: typer.Typer) -> None:
    """Add the commands to `kwbp gateway`."""
    for each in (orders, order, reverse, resolve, statements, limits):
        app.command()(each)
