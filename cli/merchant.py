"""`kwbp merchant`: the merchant servers of this installation."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.files import replace_file
from cli import enrolment, keyfiles, member_enrolment, merchant_certificate, merchant_money, output
from cli.key_approval import have_made
from cli.key_service import service
from cli.member_enrolment import Composed, Registry
from cli.state import Installation, existing
from cli.tls_request import request_tls
from cps.model import Purpose
from kwbp.registration.members import MerchantToEnrol, build_merchant_request
from kwbp.registration.signers import self_signed
from pki import cms_signed, names
from pki.csr import parse_csr
from runtime.client import raise_problem
from runtime.secrets import read_secret, write_secret
from runtime.settings import MerchantSettings, Settings
from storefront.merchant.catalogue import load_catalogue
from storefront.merchant.files import key_files, tls_name

app = typer.Typer(help="Merchant servers: configure one, see its orders, move its money.", no_args_is_help=True)

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
    requests = _requests(found, name, organisation, request, "apply")
    subject = {
        "merchant_id": merchant.merchant_id,
        "name": merchant.name,
        "organisation": organisation,
        "acquirer_bin": found.settings.gateway.acquirer_bin,
        "origin": merchant.url,
        "iban": iban,
        "hosts": _hosts(merchant),
    }
    with enrolment.ra(found, found.tls("operator")) as client:
        enrolment.report(client.apply("merchant", subject, requests, contact=contact))


@app.command()
def register(
    name: Annotated[str, typer.Argument(help="Name of the merchant server, from 'kwbp merchant configure'.")],
    iban: Annotated[str, typer.Option(help="Settlement account; bound into the certificate by a salted hash.")],
    organisation: Annotated[str, typer.Option(help="The merchant's legal name.")],
    licence: Annotated[str, typer.Option(help="Number of the trade licence.")],
    request: Annotated[
        Path | None, typer.Option("--csr", help="PKCS#10 request of a merchant that keeps its own key.", exists=True)
    ] = None,
) -> None:
    """Get a merchant's certificates by the protocol's own messages (MerInitReq, MerCertReq).

    The request is signed with the server's TLS key. Run it again to ask how the application stands: once officers have
    approved it, this puts the certificates where the merchant server takes them from, and accepts them.
    """
    found = existing()
    merchant = _settings(found, name)

    def compose(registry: Registry) -> Composed:
        requests = {
            str(purpose): parse_csr(each).public_bytes(Encoding.DER)
            for purpose, each in _requests(found, name, organisation, request, "register").items()
        }
        told, instant = registry.init(), enrolment.now()
        draft = build_merchant_request(
            MerchantToEnrol(
                merchant_id=merchant.merchant_id,
                name=merchant.name,
                organisation=organisation,
                acquirer_bin=found.settings.gateway.acquirer_bin,
                iban=iban,
                licence=licence,
                origin=merchant.url,
                hosts=_hosts(merchant),
            ),
            rrpid=os.urandom(20),
            chall_ee=told.chall_ee,
            chall_ca=told.chall_ca,
            requests=requests,
            now=instant,
        )
        key = keyfiles.load(found.home.tls / f"{tls_name(name)}.key", None)
        certificate = self_signed(key, now=instant)
        signed = cms_signed.sign(
            draft.content_type, draft.content, key=key, signer=certificate, chain=(), signing_time=instant
        )
        return Composed(draft.message(signed), told.chall_ee, requests)

    answer = member_enrolment.register(found, f"merchant-{name}", compose)
    _install(found, name, answer.chains, answer.body.application)
    member_enrolment.finish(found, f"merchant-{name}")


@app.command()
def collect(
    name: Annotated[str, typer.Argument(help="Name of the merchant server.")],
    application: Annotated[str, typer.Argument(help="The application that was approved.")],
) -> None:
    """Fetch the certificates of an approved application and put them where the merchant server takes them from."""
    found = existing()
    _install(found, name, enrolment.issued(found, application), application)


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


def _install(
    found: Installation, name: str, certificates: Mapping[str, tuple[x509.Certificate, ...]], application: str
) -> None:
    """Put the certificates where the merchant server takes them from, and accept them."""
    merchant = _settings(found, name)
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


def _requests(
    found: Installation, name: str, organisation: str, request: Path | None, command: str
) -> dict[Purpose, bytes]:
    """The PKCS#10 requests of a merchant server: its signing key's and its TLS key's."""
    merchant = _settings(found, name)
    subject_name = names.name(cn=merchant.name, o=organisation)
    if merchant.key is not None:
        with service(found) as keys:
            wanted = {merchant.key: ("merchant-signing", merchant.merchant_id)}
            have_made(keys, wanted, f"merchant server {name} of {organisation}", f"kwbp merchant {command} {name} …")
            signing = keys.certification_request(merchant.key, subject_name.public_bytes())
    elif request is not None:
        signing = request.read_bytes()
    else:
        output.fail(f"{name} keeps its own key", hint="give its PKCS#10 request with --csr")
    hosts = _hosts(merchant)
    tls = request_tls(found.home, tls_name(name), hosts, uri=f"urn:kwbp:merchant:{merchant.merchant_id}")
    return {"signing": signing, "tls": tls}


def _hosts(merchant: MerchantSettings) -> tuple[str, ...]:
    return ("localhost", merchant.host)


def _toml(text: str) -> str:
    """A basic string of TOML, which JSON's strings are."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _settings(found: Installation, name: str) -> MerchantSettings:
    merchants = found.settings.merchants
    if name not in merchants:
        output.fail(f"there is no merchant server {name!r}", hint=f"there are: {', '.join(merchants) or 'none'}")
    return merchants[name]


app.add_typer(merchant_certificate.app, name="certificate")
merchant_money.install(app)
