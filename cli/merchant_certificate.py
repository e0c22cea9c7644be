"""`kwbp merchant certificate`: how a merchant's signing certificate stands, have it revoked, get the next one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ca.files import replace_file
from ca.hierarchy import load_hierarchy
from ca.status_client import StatusCache
from cli import enrolment, keyfiles, output, own_certificate
from cli.key_service import service
from cli.own_certificate import Reason, Yes
from cli.state import Installation, existing
from hsm_service.client import HsmClient
from kwbp.codes import RegistrationStatus
from runtime.language import Message, Term
from runtime.secrets import read_secret
from runtime.settings import MerchantSettings
from storefront.files import write_whole
from storefront.holder import CertificateDesk, Sign
from storefront.merchant.files import key_files, tls_name
from storefront.signers import FileSigner

app = typer.Typer(
    help="The signing certificate of a merchant: how it stands, revoke it, get the next one.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="Name of the merchant server.")]


@app.command()
def show(name: Name) -> None:
    """Ask the registration authority how the certificate stands; its answer is signed."""
    found = existing()
    with _holder(found, name) as (certificate, desk):
        own_certificate.report(desk.status(), certificate, name)


@app.command()
def revoke(name: Name, reason: Reason, yes: Yes = False) -> None:
    """Have the certificate revoked or suspended: the merchant server can sell nothing then."""
    found = existing()
    with _holder(found, name) as (certificate, desk):
        own_certificate.sure(reason, name, yes)
        told = desk.revoke(desk.revocation(own_certificate.REASONS[reason]))
        own_certificate.report(told, certificate, name)


@app.command()
def renew(
    name: Name,
    next_key: Annotated[
        Path | None, typer.Option(help="The next key (PEM, mode 0600) of a merchant that keeps its own.")
    ] = None,
) -> None:
    """Ask for the next certificate, for a new key and signed with the old one; one officer decides on it.

    A key in a token is rotated first ('kwbp key rotate'). Run it again to ask how the application stands: once it is
    approved, this puts the certificate where the merchant server takes it from, and accepts it.
    """
    found = existing()
    merchant = _settings(found, name)
    path = found.home.path / "registrations" / f"renewal-{name}.json"
    if not path.exists():
        with _holder(found, name) as (certificate, desk):
            kept = {
                "message": desk.renewal(_request(found, merchant, certificate, next_key)).hex(),
                "certificate": certificate.public_bytes(Encoding.PEM).decode("ascii"),
                "key": None if next_key is None else str(next_key.absolute()),
            }
        path.parent.mkdir(mode=0o700, exist_ok=True)
        replace_file(path, json.dumps(kept).encode("ascii"))
    kept = json.loads(path.read_text(encoding="ascii"))
    certificate = x509.load_pem_x509_certificate(str(kept["certificate"]).encode("ascii"))
    with own_certificate.answers(lambda: path.unlink()), _desk(found, certificate, _signs_nothing) as desk:
        answer = desk.renew(bytes.fromhex(str(kept["message"])))
    status, application = answer.body.status, answer.body.application
    if status is not RegistrationStatus.ISSUED:
        if status is not RegistrationStatus.PENDING:
            path.unlink()
        waits = status is RegistrationStatus.PENDING
        output.fail(
            Message(
                "the application {application} is {state}", application=application, state=Term("state", status.name)
            ),
            hint=Message("{command} asks again", command=f"kwbp merchant certificate renew {name}") if waits else None,
            code=own_certificate.OPEN if waits else 1,
        )
    if merchant.key is not None:
        with service(found) as keys:
            keys.attach_certificate(merchant.key, [each.public_bytes(Encoding.DER) for each in answer.chain])
    else:  # killed between the two, it is run again: the request is still there
        key, chain = key_files(found.home, name)
        write_whole(key, read_secret(Path(str(kept["key"]))).reveal() + b"\n")
        enrolment.write_chain(chain, answer.chain)
    enrolment.accept(found, application)
    path.unlink()
    serial = f"{answer.chain[0].serial_number:x}"
    told = Message("the merchant server {name} has the certificate {serial}; start it anew", name=name, serial=serial)
    output.emit({"merchant": name, "serial": serial}, [output.plain(output.said(told))])


def _request(
    found: Installation, merchant: MerchantSettings, certificate: x509.Certificate, next_key: Path | None
) -> bytes:
    """PKCS#10 (DER) of the next key; ends the command if there is none."""
    if merchant.key is not None:
        with service(found) as keys:
            newest = max(each.version for each in keys.list_versions(merchant.key))
            subject = certificate.subject.public_bytes()
            request = keys.certification_request(merchant.key, subject, version=newest)
    elif next_key is not None:
        key = keyfiles.load(next_key, None)
        builder = x509.CertificateSigningRequestBuilder().subject_name(certificate.subject)
        request = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    else:
        output.fail(Message("a merchant that keeps its own key gives the next one with --next-key"))
    if x509.load_der_x509_csr(request).public_key() == certificate.public_key():
        output.fail(Message("a certificate is renewed for a new key"), hint=Message("'kwbp key rotate' makes one"))
    return request


@contextmanager
def _holder(found: Installation, name: str) -> Iterator[tuple[x509.Certificate, CertificateDesk]]:
    """The merchant's signing certificate, and the authority as its holder sees it."""
    merchant = _settings(found, name)
    with ExitStack() as stack:
        if merchant.key is not None:
            client = HsmClient.connect(found.settings.hsm.url, found.home.tls_files(tls_name(name)))
            stack.callback(client.close)
            certificate = x509.load_der_x509_certificate(client.certificate_chain(merchant.key)[0])
            sign = partial(_by_token, client, merchant.key)
        else:
            key, chain = key_files(found.home, name)
            passphrase_file = found.home.secrets / f"merchant-{name}.passphrase"
            passphrase = read_secret(passphrase_file) if passphrase_file.exists() else None
            signer = FileSigner.load(key, chain, passphrase, lambda: datetime.now(UTC).replace(microsecond=0))
            certificate = signer.certificate
            sign = partial(_by_file, signer)
        with own_certificate.answers(), _desk(found, certificate, sign) as desk:
            yield certificate, desk


@contextmanager
def _desk(found: Installation, certificate: x509.Certificate, sign: Sign) -> Iterator[CertificateDesk]:
    hierarchy = load_hierarchy(found.home.pki)
    status = StatusCache(found.settings.repository.url, hierarchy.anchors, hierarchy.intermediates, with_bci=True)
    try:
        with found.client(found.settings.ra.url) as client:
            yield own_certificate.desk(client, certificate, sign, status.trust)
    finally:
        status.close()


def _by_token(client: HsmClient, key: str, content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
    return client.sign_cms(key, content_type.dotted_string, content)


def _by_file(signer: FileSigner, content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
    return asyncio.run(signer.sign(content_type, content))


def _signs_nothing(_content_type: x509.ObjectIdentifier, _content: bytes) -> bytes:
    raise AssertionError("what is sent again is signed already")


def _settings(found: Installation, name: str) -> MerchantSettings:
    merchants = found.settings.merchants
    if name not in merchants:
        known = Message("there are: {names}", names=", ".join(merchants)) if merchants else None
        output.fail(Message("there is no merchant server {name}", name=name), hint=known)
    return merchants[name]
