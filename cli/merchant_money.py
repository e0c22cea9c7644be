"""`kwbp merchant capture`, `refund`, `batch`, `advice` …: the money after the authorisation, for the merchant's people.

Each command says one wish to the merchant server, under a name. Whatever happens to the command, the same wish said
again under the same name (`--wish`) is done once. Exit code 0: done; 3: nobody knows yet, the shop goes on asking; 1:
declined or refused, nothing moved.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Final

import httpx
import typer

from cli import output, typed_days
from cli.state import Installation, existing
from runtime.client import http_client, raise_problem
from runtime.language import Message, Term
from runtime.settings import MerchantSettings

batch_app = typer.Typer(help="Batches: what is settled together.", no_args_is_help=True)

_OPEN: Final = 3
_TIMEOUT: Final = 60.0  # seconds: longer than a shop keeps its people waiting

Name = Annotated[str, typer.Argument(help="Name of the merchant server, for example bookshop.")]
Xid = Annotated[str, typer.Argument(help="The order, 40 hexadecimal digits; 'kwbp merchant orders' lists them.")]
Amount = Annotated[int | None, typer.Argument(help="Rial.", show_default="all that is left", min=1)]
Which = Annotated[str | None, typer.Option("--of", help="Which one is meant: the beginning of its id.")]
WishName = Annotated[
    str | None, typer.Option("--wish", help="A name of your own for this wish; said again under it, it is done once.")
]


def install(app: typer.Typer) -> None:
    """Add the commands to `kwbp merchant`."""
    for command in (money, capture, uncapture, cancel, refund, unrefund, advice):
        app.command()(command)
    app.add_typer(batch_app, name="batch")


def money(name: Name, xid: Xid) -> None:
    """Show how the money of an order stands: authorised, captured, refunded, and every request about it."""
    document = _get(name, f"/orders/{xid}/money")
    standing = document["standing"]
    if output.json_wanted():
        output.emit(document)
        return
    if standing is None:
        output.emit({}, [_said(Message("nothing was paid with this order, or its outcome is not known yet"))])
        return
    _show(standing)
    output.table(
        _said(Message("Requests")),
        [Term("column", each) for each in ("Wish", "Operation", "Amount", "State", "Why", "At")],
        [
            (
                each["wish"],
                _term("money operation", each["operation"]),
                f"{each['amount']:,}",
                _term("money request", each["state"]),
                _why(each),
                each["at"],
            )
            for each in document["requests"]
        ],
    )


def capture(name: Name, xid: Xid, amount: Amount = None, wish: WishName = None) -> None:
    """Collect money of an order that was only authorised; again and again until all is collected."""
    _ask(name, xid, wish, operation="capture", amount=amount)


def uncapture(name: Name, xid: Xid, of: Which = None, wish: WishName = None) -> None:
    """Take a capture back, the whole of it, before its batch is closed."""
    _ask(name, xid, wish, operation="uncapture", of=of)


def cancel(
    name: Name,
    xid: Xid,
    keep: Annotated[int, typer.Option(help="Rial that stay authorised, and of a sale captured.", min=0)] = 0,
    reason: Annotated[
        str, typer.Option(help="customer-cancellation, not-deliverable, wrong-amount or suspected-fraud.")
    ] = "customer-cancellation",
    wish: WishName = None,
) -> None:
    """Take an authorisation or a sale back before its batch is closed, the whole of it or all but what is kept."""
    _ask(name, xid, wish, operation="cancel", amount=keep, reason=reason)


def refund(name: Name, xid: Xid, amount: Amount = None, of: Which = None, wish: WishName = None) -> None:
    """Give the buyer money back, all that was captured or a part of it; any time, also after settlement."""
    _ask(name, xid, wish, operation="refund", amount=amount, of=of)


def unrefund(name: Name, xid: Xid, of: Which = None, wish: WishName = None) -> None:
    """Take a refund back, the whole of it, before its batch is closed."""
    _ask(name, xid, wish, operation="unrefund", of=of)


@batch_app.command("open")
def open_(name: Name, wish: WishName = None) -> None:
    """Open the next batch. It begins where the last one ended."""
    _ask_batch(name, wish, "open")


@batch_app.command()
def close(name: Name, wish: WishName = None) -> None:
    """Close the open batch, if both books hold the same; what is in it is settled from then on."""
    _ask_batch(name, wish, "close")


@batch_app.command()
def show(name: Name, wish: WishName = None) -> None:
    """Ask the gateway how the newest batch stands, and hold its sums against the own book's."""
    _ask_batch(name, wish, "status")


def advice(
    name: Name,
    day: Annotated[date, typer.Argument(parser=typed_days.business_day, help=f"The business day: {typed_days.HELP}")],
) -> None:
    """Fetch the acquirer's signed advice of a business day, and name every difference from the own book.

    Exit code 0: they agree; 3: they differ.
    """
    document = _get(name, f"/settlement-advices/{day.isoformat()}")
    if output.json_wanted():
        output.emit(document)
    else:
        output.table(
            _said(Message("Advice of {day}", day=document["day"])),
            [Term("column", each) for each in ("XID", "Kind", "Amount", "Fee")],
            [
                (each["xid"], _term("entry", each["kind"]), f"{each['amount']:,}", f"{each['fee']:,}")
                for each in document["lines"]
            ],
        )
        paid = Message(
            "paid: {net} rial to {iban}, fees {fees} rial deducted; by the own book {expected} rial",
            net=f"{document['net']:,}",
            iban=document["iban"],
            fees=f"{document['fees']:,}",
            expected=f"{document['expected']:,}",
        )
        output.emit({}, [_said(paid)])
        for each in document["differences"]:
            output.emit({}, [f"[yellow]≠[/yellow] {_said(_difference(each))}"])
    if not document["agrees"]:
        output.note(_said(Message("the advice differs from the own book: talk to the acquirer about each line above")))
        raise typer.Exit(_OPEN)
    output.note(_said(Message("the advice agrees with the own book")))


# --- saying a wish ----------------------------------------------------------------------------------------------------


def _ask(name: str, xid: str, wish: str | None, **asked: Any) -> None:
    body = {key: value for key, value in asked.items() if value is not None}
    document = _post(name, f"/orders/{xid}/money", wish, body)
    said = None if document["state"] != "approved" else _done(document)
    if output.json_wanted():
        output.emit(document)
    elif said is not None:
        output.emit({}, [_said(said)])
        _show(document["standing"])
    _end(document)


def _ask_batch(name: str, wish: str | None, operation: str) -> None:
    document = _post(name, "/batches", wish, {"operation": operation})
    if output.json_wanted():
        output.emit(document)
    elif document["state"] == "approved":
        _show_batch(document)
    if document["clause"] == "L5":
        output.note(
            _said(Message("{command} shows the sums of both books", command=f"'kwbp merchant batch show {name}'"))
        )
    _end(document)


def _post(name: str, path: str, wish: str | None, body: dict[str, Any]) -> dict[str, Any]:
    found = existing()
    merchant = _merchant(found.settings.merchants, name)
    named = wish or f"kwbp-{os.urandom(8).hex()}"
    try:
        with _client(found, merchant) as client:
            response = client.post(path, json={"wish": named, **body})
    except httpx.TransportError:
        output.fail(
            Message("the shop did not answer: nobody knows whether it took this wish"),
            hint=Message("say it again under the same name: {option}", option=f"--wish {named}"),
            code=_OPEN,
        )
    document: dict[str, Any] = raise_problem(response).json()
    return document


def _get(name: str, path: str) -> dict[str, Any]:
    found = existing()
    with _client(found, _merchant(found.settings.merchants, name)) as client:
        document: dict[str, Any] = raise_problem(client.get(path)).json()
    return document


def _client(found: Installation, merchant: MerchantSettings) -> httpx.Client:
    return http_client(found.tls("operator"), merchant.url, timeout=_TIMEOUT, language=output.language())


def _merchant(merchants: Mapping[str, MerchantSettings], name: str) -> MerchantSettings:
    if name not in merchants:
        output.fail(
            Message("there is no merchant server {name}", name=name),
            hint=Message("there are: {names}", names=", ".join(merchants) or "-"),
        )
    return merchants[name]


def _end(document: Mapping[str, Any]) -> None:
    """What became of a wish that is not done, and what to do next."""
    state = document["state"]
    if state == "approved":
        return
    if state == "open":
        output.note(
            _said(Message("nobody knows yet whether it was done ({why}); the shop goes on asking", why=_why(document)))
        )
        output.note(_said(Message("ask again with {option}", option=f"--wish {document['wish']}")))
        raise typer.Exit(_OPEN)
    if state == "declined":
        output.note(_said(Message("declined ({why}): nothing moved", why=_why(document))))
    else:
        output.note(_said(Message("the gateway refused it ({why}): nothing moved", why=_why(document))))
    raise typer.Exit(1)


# --- what people read -------------------------------------------------------------------------------------------------


def _done(document: Mapping[str, Any]) -> Message:
    amount = f"{document['amount']:,}"
    match document["operation"]:
        case "capture":
            return Message("captured: {amount} rial", amount=amount)
        case "uncapture":
            return Message("the capture of {amount} rial is taken back", amount=amount)
        case "cancel":
            return Message("taken back; {amount} rial are kept", amount=amount)
        case "refund":
            return Message("given back to the buyer: {amount} rial", amount=amount)
        case _:
            return Message("the refund of {amount} rial is taken back", amount=amount)


def _show(standing: Mapping[str, Any]) -> None:
    """How the money of an order stands."""
    output.table(
        _said(Message("Order: {state}", state=Term("money state", standing["state"]))),
        [Term("column", each) for each in ("Approved", "Authorised", "Captured", "Refunded")],
        [tuple(f"{standing[each]:,}" for each in ("approved", "authorised", "captured", "refunded"))],
    )
    parts = [("capture", each, each["refunded"]) for each in standing["captures"]]
    parts += [("refund", each, None) for each in standing["refunds"]]
    if not parts:
        return
    output.table(
        _said(Message("Captures and refunds")),
        [Term("column", each) for each in ("Id", "Kind", "Amount", "Refunded", "Settled")],
        [
            (
                each["id"][:12],
                _term("money operation", kind),
                f"{each['amount']:,}",
                None if refunded is None else f"{refunded:,}",
                "✓" if each["settled"] else "",
            )
            for kind, each, refunded in parts
        ],
    )


def _show_batch(document: Mapping[str, Any]) -> None:
    state = Term("batch state", document["status"])
    output.emit(
        {},
        [
            _said(
                Message(
                    "batch {number}: {state}, from {begins} to {until}",
                    number=document["batch"],
                    state=state,
                    begins=document["begins"] or "-",
                    until=document["until"],
                )
            )
        ],
    )
    output.table(
        _said(
            Message(
                "Net by the own book {own} rial, by the gateway's {theirs} rial",
                own=f"{document['net']:,}",
                theirs=f"{document['gateway_net']:,}",
            )
        ),
        [Term("column", each) for each in ("Kind", "Count", "Amount", "Count there", "Amount there")],
        [
            (
                _term("entry", each["kind"]),
                each["count"],
                f"{each['amount']:,}",
                each["gateway_count"],
                f"{each['gateway_amount']:,}",
            )
            for each in document["totals"]
        ],
    )
    agree = Message("the books agree") if document["agrees"] else Message("the books differ")
    output.emit({}, [_said(agree)])


def _difference(each: Mapping[str, Any]) -> Message:
    """One difference between an advice and the own book."""
    about = {"xid": each["xid"], "id": (each["id"] or "")[:12]}
    expected, advised = (("-" if each[key] is None else f"{each[key]:,}") for key in ("expected", "advised"))
    match each["kind"]:
        case "part_missing":
            return Message("part {number} of the advice is missing", number=expected)
        case "not_advised":
            return Message("{xid} ({id}): {expected} rial of the own book are not advised", **about, expected=expected)
        case "not_in_book":
            return Message("{xid} ({id}): {advised} rial are advised, the own book has none", **about, advised=advised)
        case "repeated":
            return Message("{xid} ({id}): advised {advised} times", **about, advised=advised)
        case "other_purchase":
            return Message("{xid} ({id}): advised for another purchase", **about)
        case "other_kind":
            return Message("{xid} ({id}): advised as another kind of movement", **about)
        case "other_amount":
            return Message(
                "{xid} ({id}): the own book has {expected} rial, advised are {advised}",
                **about,
                expected=expected,
                advised=advised,
            )
        case _:
            return Message(
                "{xid} ({id}): a fee of {advised} rial instead of {expected}",
                **about,
                expected=expected,
                advised=advised,
            )


def _why(document: Mapping[str, Any]) -> str:
    """A code and the check that said it, or the word of an open request."""
    code, clause = document["code"] or document["word"] or "-", document["clause"]
    return f"{code}, {clause}" if clause else str(code)


def _term(kind: str, name: str) -> str:
    return output.said(Term(kind, name))


def _said(message: Message) -> str:
    return output.plain(output.said(message))
