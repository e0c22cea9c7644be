"""`kwbp merchant`: the merchant servers of this installation."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography.hazmat.primitives.serialization import Encoding

from ca.files import replace_file
from cli import enrolment, output
from cli.init import request_tls
from cli.key_approval import have_made
from cli.key_service import service
from cli.state import Installation, existing
from pki import names
from runtime.client import raise_problem
from runtime.secrets import read_secret, write_secret
from runtime.settings import MerchantSettings, Settings
from storefront.merchant.catalogue import load_catalogue
from storefront.merchant.service import key_files, tls_name

app = typer.Typer(help="Merchant servers: configure one, see its orders.", no_args_is_help=True)

_SECTION = """
[merchants.{name}]
port = {port}
merchant_id = {merchant_id}
name = {shop}
terminal_id = {terminal}
{key}{catalogue}"""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


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
    if _NAME.fullmatch(name) is None:
        output.fail(f"{name!r} is no name", hint="small letters, digits and hyphens, at most 40")
    if (key is None) == (own_key is None):
        output.fail("a merchant signs with a token key or with its own", hint="give --key or --own-key")
    if catalogue is not None:
        load_catalogue(catalogue)
    own = None if own_key is None else read_secret(own_key)
    section = _SECTION.format(
        name=name,
        port=port,
        merchant_id=_toml(merchant_id),
        shop=_toml(shop),
        terminal=_toml(terminal),
        key=f"key = {_toml(key)}\n" if key else "",
        catalogue=f"catalogue = {_toml(str(catalogue.absolute()))}\n" if catalogue else "",
    )
    before = found.home.config.read_text(encoding="utf-8")
    replace_file(found.home.config, (before + section).encode())  # at once: 'kwbp serve' watches it
    try:
        Settings.load(found.home)
        if own is not None:
            target = key_files(found.home, name)[0]
            target.parent.mkdir(mode=0o700, exist_ok=True)
            write_secret(target, own.reveal() + b"\n")
    except Exception:
        replace_file(found.home.config, before.encode())
        raise
    output.emit({"merchant": name, "port": port}, [f"Merchant server {name} on port {port}."])


@app.command()
def apply(
    name: Annotated[str, typer.Argument(help="Name of the merchant server, from 'kwbp merchant configure'.")],
    iban: Annotated[str, typer.Option(help="Settlement account; bound into the certificate by a salted hash.")],
    organisation: Annotated[str, typer.Option(help="The merchant's legal name.")],
    request: Annotated[
        Path | None, typer.Option("--csr", help="PKCS#10 request of a merchant that keeps its own key.", exists=True)
    ] = None,
    contact: Annotated[
        str | None, typer.Option(help="E-mail address that is told what becomes of the application.")
    ] = None,
) -> None:
    """Apply for a merchant's certificates: one for its signing key, one for its TLS.

    A token key that is not there yet is asked for; run this again when officers have approved it.
    """
    found = existing()
    merchant = _settings(found, name)
    subject_name = names.name(cn=merchant.name, o=organisation)
    if merchant.key is not None:
        with service(found) as keys:
            wanted = {merchant.key: ("merchant-signing", merchant.merchant_id)}
            have_made(keys, wanted, f"merchant server {name} of {organisation}", f"kwbp merchant apply {name} …")
            signing = keys.certification_request(merchant.key, subject_name.public_bytes())
    elif request is not None:
        signing = request.read_bytes()
    else:
        output.fail(f"{name} keeps its own key", hint="give its PKCS#10 request with --csr")
    hosts = ("localhost", merchant.host)
    tls = request_tls(found.home, tls_name(name), hosts, uri=f"urn:kwbp:merchant:{merchant.merchant_id}")
    subject = {
        "merchant_id": merchant.merchant_id,
        "name": merchant.name,
        "organisation": organisation,
        "acquirer_bin": found.settings.gateway.acquirer_bin,
        "origin": merchant.url,
        "iban": iban,
        "hosts": hosts,
    }
    with enrolment.ra(found, found.tls("operator")) as client:
        enrolment.report(client.apply("merchant", subject, {"signing": signing, "tls": tls}, contact=contact))


@app.command()
def collect(
    name: Annotated[str, typer.Argument(help="Name of the merchant server.")],
    application: Annotated[str, typer.Argument(help="The application that was approved.")],
) -> None:
    """Fetch the certificates of an approved application and put them where the merchant server takes them from."""
    found = existing()
    merchant = _settings(found, name)
    certificates = enrolment.issued(found, application)
    if merchant.key is not None:
        with service(found) as keys:
            keys.attach_certificate(merchant.key, [each.public_bytes(Encoding.DER) for each in certificates["signing"]])
    else:
        enrolment.write_chain(key_files(found.home, name)[1], certificates["signing"])
    enrolment.write_chain(found.home.tls / f"{tls_name(name)}.pem", certificates["tls"])
    enrolment.accept(found, application)
    output.emit(
        {purpose: f"{chain[0].serial_number:x}" for purpose, chain in certificates.items()},
        [f"{purpose} certificate {chain[0].serial_number:x}" for purpose, chain in certificates.items()],
    )


@app.command()
def orders(name: Annotated[str, typer.Argument(help="Name of the merchant server.")]) -> None:
    """Show the newest orders of a merchant."""
    found = existing()
    with found.client(_settings(found, name).url) as client:
        rows = raise_problem(client.get("/orders")).json()
    output.table(
        "Orders",
        ("XID", "State", "Amount", "RRN", "At"),
        [(row["xid"], row["state"], row["amount"], row["rrn"], row["created_at"]) for row in rows],
        document=rows,
    )


def _toml(text: str) -> str:
    """A basic string of TOML, which JSON's strings are."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _settings(found: Installation, name: str) -> MerchantSettings:
    merchants = found.settings.merchants
    if name not in merchants:
        output.fail(f"there is no merchant server {name!r}", hint=f"there are: {', '.join(merchants) or 'none'}")
    return merchants[name]
