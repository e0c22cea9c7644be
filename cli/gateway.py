"""`kwbp gateway`: the payment gateway's merchants and orders."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import output
from cli.state import existing
from runtime.client import raise_problem

app = typer.Typer(help="The payment gateway: merchants, orders.", no_args_is_help=True)


@app.command("add-merchant")
def add_merchant(
    merchant_id: Annotated[str, typer.Argument(help="Merchant id, as in its certificate.")],
    terminal: Annotated[str, typer.Option(help="Terminal id (DE 41), up to 8 characters.")],
    name: Annotated[str, typer.Option(help="Name for DE 43, printable ASCII.")],
    mcc: Annotated[str, typer.Option(help="Merchant category code (DE 18).")] = "5942",
    order_limit: Annotated[
        int | None, typer.Option(help="Largest order in rial; without it there is no limit.")
    ] = None,
) -> None:
    """Register a merchant, so that the gateway collects for it."""
    found = existing()
    body = {
        "merchant_id": merchant_id,
        "terminal_id": terminal,
        "name": name,
        "mcc": mcc,
        "order_limit": order_limit,
    }
    with found.client(found.settings.gateway.url) as client:
        document: dict[str, Any] = raise_problem(client.post("/v1/merchants", json=body)).json()
    output.emit(document, [f"The gateway collects for {merchant_id} (terminal {terminal})."])


@app.command()
def merchants() -> None:
    """Show the registered merchants."""
    found = existing()
    with found.client(found.settings.gateway.url) as client:
        rows = raise_problem(client.get("/v1/merchants")).json()
    output.table(
        "Merchants",
        ("Merchant", "Terminal", "Name", "MCC", "Active"),
        [(row["merchant_id"], row["terminal_id"], row["name"], row["mcc"], row["active"]) for row in rows],
        document=rows,
    )


@app.command()
def order(
    xid: Annotated[str, typer.Argument(help="XID of the purchase, 40 hexadecimal digits.")],
    merchant_id: Annotated[str, typer.Option("--merchant", help="Merchant id.")],
) -> None:
    """Show where an order stands at the gateway."""
    found = existing()
    with found.client(found.settings.gateway.url) as client:
        row = raise_problem(client.get(f"/v1/orders/{xid}", params={"merchant_id": merchant_id})).json()
    shown = ("state", "amount", "auth_code", "rc", "stan", "rrn", "masked_pan", "reversal_reason", "changed_at")
    output.emit(row, [f"  {name.replace('_', ' '):<16} {row[name]}" for name in shown if row[name] is not None])
