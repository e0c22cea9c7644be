"""`kwbp merchant`: the merchant servers of this installation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from cli import output
from cli.state import existing
from runtime.client import raise_problem
from runtime.settings import Settings
from storefront.merchant.catalogue import load_catalogue
from storefront.merchant.service import key_files

app = typer.Typer(help="Merchant servers: configure one, see its orders.", no_args_is_help=True)

_SECTION = """
[merchants.{name}]
port = {port}
merchant_id = "{merchant_id}"
name = "{shop}"
terminal_id = "{terminal}"
{key}{catalogue}"""


@app.command()
def configure(
    name: Annotated[str, typer.Argument(help="Name of the merchant server, for example bookshop.")],
    merchant_id: Annotated[str, typer.Option(help="Merchant id, as it will stand in the certificate.")],
    shop: Annotated[str, typer.Option(help="Name of the shop.")],
    terminal: Annotated[str, typer.Option(help="Terminal id (DE 41), up to 8 characters.")],
    port: Annotated[int, typer.Option(help="Port of the merchant server.")],
    key: Annotated[
        str | None, typer.Option(help="Token key that signs for it; without it, a key file of its own.")
    ] = None,
    own_key: Annotated[
        Path | None, typer.Option(help="Signing key (PEM, mode 0600) of a merchant that keeps it.")
    ] = None,
    catalogue: Annotated[Path | None, typer.Option(help="What it sells (YAML).", show_default="a bookshop")] = None,
) -> None:
    """Add a merchant server to the settings. A running 'kwbp serve' starts it once its certificates are there."""
    found = existing()
    if name in found.settings.merchants:
        output.fail(f"there is already a merchant server {name}")
    if (key is None) == (own_key is None):
        output.fail("a merchant signs with a token key or with its own", hint="give --key or --own-key")
    if catalogue is not None:
        load_catalogue(catalogue)
    if own_key is not None:
        target = key_files(found.home, name)[0]
        target.parent.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(own_key, target)
        target.chmod(0o600)
    section = _SECTION.format(
        name=name,
        port=port,
        merchant_id=merchant_id,
        shop=shop,
        terminal=terminal,
        key=f'key = "{key}"\n' if key else "",
        catalogue=f'catalogue = "{catalogue.absolute()}"\n' if catalogue else "",
    )
    before = found.home.config.read_text(encoding="utf-8")
    found.home.config.write_text(before + section, encoding="utf-8")
    try:
        Settings.load(found.home)
    except Exception:
        found.home.config.write_text(before, encoding="utf-8")
        raise
    output.emit({"merchant": name, "port": port}, [f"Merchant server {name} on port {port}."])


@app.command()
def orders(name: Annotated[str, typer.Argument(help="Name of the merchant server.")]) -> None:
    """Show the newest orders of a merchant."""
    found = existing()
    if name not in found.settings.merchants:
        output.fail(f"there is no merchant server {name!r}", hint=f"there are: {', '.join(found.settings.merchants)}")
    with found.client(found.settings.merchants[name].url) as client:
        rows = raise_problem(client.get("/orders")).json()
    output.table(
        "Orders",
        ("XID", "State", "Amount", "RRN", "At"),
        [(row["xid"], row["state"], row["amount"], row["rrn"], row["created_at"]) for row in rows],
        document=rows,
    )
