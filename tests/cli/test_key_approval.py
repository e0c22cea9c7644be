"""`kwbp key requests | review | approve | reject`, against the signing API on a real token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import Result
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from typer.testing import CliRunner

from cli.main import build
from hsm_service.app import create_app
from hsm_service.operation_docket import Approving
from hsm_service.vault import Vault
from runtime.client import TlsFiles
from runtime.server import start
from tests.support.pki_factory import Credential, PkiFactory, pem
from tests.support.softhsm import provisioned_home

EKU = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
TLS: dict[str, Any] = {"extended_key_usage": (EKU, False)}
PASSPHRASE = b"correct horse battery"


def write(folder: Path, name: str, credential: Credential, passphrase: bytes | None = None) -> None:
    folder.mkdir(exist_ok=True)
    if passphrase is None:
        credential.write(folder, name)
        return
    (folder / f"{name}.pem").write_bytes(pem(credential.certificate, *credential.chain))
    key = folder / f"{name}.key"
    key.touch(mode=0o600)
    key.write_bytes(
        credential.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))
    )


@pytest.fixture(scope="module")
def kwbp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Runs `kwbp` in an installation whose HSM service is up, with the operator and three officers on the machine."""
    folder = tmp_path_factory.mktemp("approval")
    home = provisioned_home(folder)
    pki = PkiFactory(now=datetime.now(UTC).replace(microsecond=0))
    home.trust_anchors.parent.mkdir(parents=True, exist_ok=True)
    home.trust_anchors.write_bytes(pki.root.certificate.public_bytes(Encoding.PEM))
    write(home.tls, "operator", pki.service("operator", replace=TLS))
    write(home.tls, "hsm", pki.service("hsm", replace=TLS))
    for person, role in (("so-1", "security_officer"), ("so-2", "security_officer"), ("vo-1", "vetting_officer")):
        officer = pki.officer(person, organisation="KWBP", roles=(role,), replace=TLS)
        write(home.path / "officers", person, officer, PASSPHRASE)
    secret = folder / "passphrase"
    secret.touch(mode=0o600)
    secret.write_bytes(PASSPHRASE)
    files = TlsFiles(home.tls / "hsm.pem", home.tls / "hsm.key", home.trust_anchors)
    with Vault.open(home, ["merchants"], approving=Approving(pki.trust)) as vault:
        with start(create_app(vault), tls=files) as url:
            at = urlsplit(url)
            home.config.write_text(f'[hsm]\nhost = "localhost"\nport = {at.port}\n')

            def run(*arguments: str, person: str | None = None) -> Result:
                who = ("--as", person, "--passphrase-file", str(secret)) if person else ()
                return CliRunner().invoke(build(["key"]), ["--home", str(home.path), *arguments, *who])

            yield run


def asked(kwbp: Any, name: str) -> str:
    made = kwbp(
        "--json", "key", "generate", name, "--template", "merchant-signing-ec", "--owner", "M-1", "--reason", "a shop"
    )
    assert made.exit_code == 0, made.output
    (request_id,) = json.loads(made.stdout)["requests"]
    return str(request_id)


def test_a_key_is_made_when_two_officers_signed_what_they_were_shown(kwbp: Any) -> None:
    request_id = asked(kwbp, "shop")
    listed = kwbp("key", "requests", person="so-1")
    assert request_id[:12] in listed.stdout
    shown = kwbp("key", "review", request_id, "--language", "fa")
    for each in ("shop", "merchant-signing-ec", "M-1", "a shop", "service:operator", request_id, "ساختن کلید"):
        assert each in shown.stdout
    first = kwbp("key", "approve", request_id[:12], person="so-1")
    assert "PENDING, 1 more needed" in first.stdout
    for each in ("APPROVE", "merchant-signing-ec", "a shop", request_id):
        assert each in first.stderr, "what is signed is shown before it is signed"
    assert "DONE" in kwbp("key", "approve", request_id, person="so-2").stdout
    assert "ENABLED" in kwbp("key", "show", "shop").stdout
    assert request_id[:12] not in kwbp("key", "requests", person="so-1").stdout
    assert request_id[:12] in kwbp("key", "requests", "--all", person="so-1").stdout


def test_an_officer_who_rejects_ends_it(kwbp: Any) -> None:
    request_id = asked(kwbp, "unwanted")
    assert "REJECTED" in kwbp("key", "reject", request_id, "--reason", "no such shop", person="so-1").stdout
    late = kwbp("--json", "key", "approve", request_id, person="so-2")
    assert late.exit_code != 0
    assert getattr(late.exception, "type", "") == "operation-decided"


@pytest.mark.parametrize(("person", "slug"), [("vo-1", "approval-refused")])
def test_who_has_not_the_role_is_told_by_which_rule(person: str, slug: str, kwbp: Any) -> None:
    refused = kwbp("key", "approve", asked(kwbp, "wanted"), person=person)
    assert refused.exit_code != 0
    assert getattr(refused.exception, "type", "") == slug
    assert getattr(refused.exception, "clause", "") == "CPS 5.2.1 APR-ROLE"


@pytest.mark.parametrize("text", ["", "zz", "0" * 63])
def test_a_beginning_that_fits_no_request_is_refused(text: str, kwbp: Any) -> None:
    refused = kwbp("key", "approve", text, person="so-1")
    assert refused.exit_code == 1
    assert "0 requests begin with" in refused.stderr
