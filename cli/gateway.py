"""`kwbp gateway`: the payment gateway's merchants and orders."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cli import (
    enrolment,
    evidence_written,
    gateway_links,
    gateway_money,
    gateway_orders,
    gateway_status,
    keyfiles,
    member_enrolment,
    output,
)
from cli.gateway_money import net_of
from cli.key_approval import have_made
from cli.key_service import service
from cli.member_enrolment import Composed, Registry
from cli.state import Installation, existing
from cps.model import Purpose
from kwbp.registration.members import GatewayToEnrol, build_gateway_request
from pki import cms_signed, names
from runtime.client import raise_problem
from runtime.language import Message
from storefront.evidence.bundle import write_bundle
from storefront.evidence.records import from_gateway_book

app = typer.Typer(
    help="The payment gateway: orders and what needs a person, money of merchants, its keys and lines.\n\n"
    "Begin with 'kwbp gateway status': it tells what is open. A new gateway: apply → collect → add-merchant. "
    "A day's money: reconcile → differences → decide → settle → payment make, send, answer.",
    no_args_is_help=True,
)
gateway_orders.register(app)
gateway_links.add_to(app)
gateway_status.add_to(app)
gateway_money.install(app)

SIGNING, ENCRYPTION = "gateway-signing", "gateway-encryption"


@app.command()
def apply(
    organisation: Annotated[str, typer.Option(help="Who runs the gateway.")],
    name: Annotated[str, typer.Option(help="Name in the certificates.")] = "KWBP payment gateway",
) -> None:
    """Apply for certificates of the gateway's keys, with the token's attestations.

    Keys that are not there yet are asked for; run this again when officers have approved them.
    """
    found = existing()
    own = found.settings.gateway
    made = _requests(found, organisation, name, "apply")
    subject = {
        "gateway_id": own.gateway_id,
        "name": name,
        "organisation": organisation,
        "acquirer_bin": own.acquirer_bin,
        "suites": made.suites,
    }
    with enrolment.ra(found, found.tls("operator")) as client:
        view = client.apply("gateway", subject, made.requests)
        for attestation in made.attestations:
            view = client.add_evidence(view.id, "key_attestation", attestation, source="service:hsm")
    enrolment.report(view)


@app.command()
def register(
    organisation: Annotated[str, typer.Option(help="Who runs the gateway.")],
    name: Annotated[str, typer.Option(help="Name in the certificates.")] = "KWBP payment gateway",
) -> None:
    """Get the gateway's certificates by the protocol's own message (GwCertReq), with the token's attestations.

    The request is signed with the gateway's service key. Run it again to ask how the application stands: once officers
    have released it, this gives the certificates to the keys, and accepts them.
    """
    found = existing()
    own = found.settings.gateway

    def compose(_registry: Registry) -> Composed:
        made, chall_ee, instant = _requests(found, organisation, name, "register"), os.urandom(32), enrolment.now()
        requests = {str(purpose): each for purpose, each in made.requests.items()}
        draft = build_gateway_request(
            GatewayToEnrol(
                gateway_id=own.gateway_id,
                name=name,
                organisation=organisation,
                acquirer_bin=own.acquirer_bin,
                suites=tuple(made.suites),
            ),
            rrpid=os.urandom(20),
            chall_ee=chall_ee,
            requests=requests,
            attestations=made.attestations,
            now=instant,
        )
        files = found.home.tls_files("gateway")
        signer, *above = x509.load_pem_x509_certificates(files.certificate.read_bytes())
        signed = cms_signed.sign(
            draft.content_type,
            draft.content,
            key=keyfiles.load(files.key, None),
            signer=signer,
            chain=above,
            signing_time=instant,
        )
        return Composed(draft.message(signed), chall_ee, requests)

    answer = member_enrolment.register(found, "gateway", compose)
    _install(found, answer.chains, answer.body.application)
    member_enrolment.finish(found, "gateway")


@app.command()
def collect(application: Annotated[str, typer.Argument(help="The application that was approved.")]) -> None:
    """Fetch the certificates of an approved application and give them to the keys; the gateway takes them up."""
    found = existing()
    _install(found, enrolment.issued(found, application), application)


@dataclass(frozen=True, slots=True)
class _Made:
    """What the gateway's keys say of themselves: PKCS#10 requests, sealing suites, attestations."""

    requests: dict[Purpose, bytes]
    suites: Sequence[str]
    attestations: list[bytes]


def _requests(found: Installation, organisation: str, name: str, command: str) -> _Made:
    own = found.settings.gateway
    with service(found) as keys:
        wanted = {key: (key, None) for key in (SIGNING, ENCRYPTION)}
        have_made(keys, wanted, f"payment gateway {own.gateway_id} of {organisation}", f"kwbp gateway {command} …")
        subject_name = names.name(cn=name, o=organisation).public_bytes()
        requests: dict[Purpose, bytes] = {
            "signing": keys.certification_request(SIGNING, subject_name),
            "encryption": keys.certification_request(ENCRYPTION, subject_name),
        }
        suites = keys.describe_key(ENCRYPTION).suites
        return _Made(requests, suites, [keys.attest_key(key) for key in (SIGNING, ENCRYPTION)])


def _install(found: Installation, certificates: Mapping[str, tuple[x509.Certificate, ...]], application: str) -> None:
    with service(found) as keys:
        for purpose, key in (("signing", SIGNING), ("encryption", ENCRYPTION)):
            keys.attach_certificate(key, [each.public_bytes(Encoding.DER) for each in certificates[purpose]])
    enrolment.accept(found, application)
    output.emit(
        {purpose: f"{chain[0].serial_number:x}" for purpose, chain in certificates.items()},
        [f"{purpose} certificate {chain[0].serial_number:x}" for purpose, chain in certificates.items()],
    )


@app.command("add-merchant")
def add_merchant(
    merchant_id: Annotated[str, typer.Argument(help="Merchant id, as in its certificate.")],
    terminal: Annotated[str, typer.Option(help="Terminal id (DE 41), up to 8 characters.")],
    name: Annotated[str, typer.Option(help="Name for DE 43, printable ASCII.")],
    mcc: Annotated[str, typer.Option(help="Merchant category code (DE 18).")] = "5942",
    order_limit: Annotated[
        int | None, typer.Option(help="Largest order in rial; without it there is no limit.")
    ] = None,
    iban: Annotated[
        str | None, typer.Option(help="Account that the acquirer pays to; without it there is no settlement advice.")
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
        "iban": iban,
    }
    with found.client(found.settings.gateway.url) as client:
        document: dict[str, Any] = raise_problem(client.post("/v1/merchants", json=body)).json()
    output.emit(
        document,
        [
            output.said(
                Message(
                    "The gateway collects for {merchant} (terminal {terminal}).",
                    merchant=merchant_id,
                    terminal=terminal,
                )
            )
        ],
    )


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
def evidence(
    xid: Annotated[str, typer.Argument(help="XID of the purchase, 40 hexadecimal digits.")],
    merchant_id: Annotated[str, typer.Option("--merchant", help="Merchant id.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
) -> None:
    """Write the gateway's own evidence of a purchase: what it received, answered and said; the script that judges."""
    found = existing()
    root = x509.load_pem_x509_certificate(found.home.trust_anchors.read_bytes())
    with found.client(found.settings.gateway.url) as client:
        held = raise_problem(client.get(f"/v1/orders/{xid}/evidence", params={"merchant_id": merchant_id})).json()
    evidence_written.tell(write_bundle(from_gateway_book(held), root, out), out)


@app.command()
def days(merchant_id: Annotated[str, typer.Argument(help="Merchant id.")]) -> None:
    """Show a merchant's business days: whether gateway and switch count the same, and what is closed."""
    found = existing()
    with found.client(found.settings.gateway.url) as client:
        rows = raise_problem(client.get("/v1/business-days", params={"merchant_id": merchant_id})).json()
    output.table(
        "Business days",
        ("Day", "State", "In balance", "Net"),
        [(row["business_day"], row["state"], row["in_balance"], net_of(row["theirs"])) for row in rows],
        document=rows,
    )


@app.command()
def keys(
    change: Annotated[bool, typer.Option("--change", help="Have the other end send new ones first.")] = False,
    zone: Annotated[
        str | None, typer.Option(help="Only this one: 'switch', or a connector with keys of its own. Else all.")
    ] = None,
) -> None:
    """Show the zone keys in use: index, check value, age, when they are changed by themselves."""
    found = existing()
    with found.client(found.settings.gateway.url) as client:
        chosen = {} if zone is None else {"zone": zone}
        asked = client.post("/v1/zone-keys:change", params=chosen) if change else client.get("/v1/zone-keys")
        rows = [row for row in raise_problem(asked).json() if zone in (None, row["zone"])]
    now = enrolment.now()
    output.table(
        "Zone keys",
        ("Zone", "Key", "Index", "Check value", "Age", "Next change"),
        [
            (
                row["zone"],
                row["key"],
                row["index"],
                row["check_value"],
                str(timedelta(seconds=int((now - datetime.fromisoformat(row["since"])).total_seconds()))),
                f"{datetime.fromisoformat(row['changes_at']):%Y-%m-%d %H:%M:%S}",
            )
            for row in rows
        ],
        document=rows,
    )
