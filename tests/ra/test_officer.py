"""The officer's side: what is shown, what is signed, and which files are refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from cps.decide import decide, decide_revocation
from cps.decision import Choice, parse_decision
from cps.dossier import Dossier
from pki.oids import CT_DECISION
from ra.errors import OfficerKeyError
from ra.officer import Draft, Officer, draft_decision, draft_revocation, load_officer, officer_of
from runtime.secrets import Secret
from tests.support.cps_cases import MERCHANT, Office
from tests.support.pki_factory import NOW, Credential, p256, pem

PASSPHRASE = Secret(b"correct horse")


@pytest.fixture(scope="module")
def here() -> Office:
    return Office()


def files(folder: Path, credential: Credential) -> tuple[Path, Path]:
    """The officer's certificate chain and encrypted key."""
    certificate, key = folder / "officer.pem", folder / "officer.key"
    certificate.write_bytes(pem(credential.certificate, *credential.chain))
    protection = BestAvailableEncryption(PASSPHRASE.reveal())
    key.write_bytes(credential.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
    return certificate, key


@pytest.fixture
def officer(tmp_path: Path, here: Office) -> Officer:
    return load_officer(*files(tmp_path, here.vetter), PASSPHRASE)


def draft(here: Office, dossier: Dossier | None = None, **changes: object) -> Draft:
    case = dossier or here.merchant_case()
    return draft_decision(case, "vet", Choice.APPROVE, pack=here.pack, now=NOW, **changes)  # type: ignore[arg-type]


def test_a_decision_signed_with_the_officers_key_file_counts(here: Office, officer: Officer) -> None:
    dossier = here.merchant_case()
    signed = officer.sign(draft(here, dossier), now=NOW)
    verdict = decide(dossier.with_decision(signed), here.pack, trust=here.pki.trust(), now=NOW)
    assert [(given.step, given.person) for given in verdict.approvals] == [("vet", "officer-1")]


def test_a_decision_lasts_as_long_as_its_step_lets_it(here: Office) -> None:
    decision = parse_decision(draft(here).content)
    assert decision.expires - decision.date == here.pack.classes["merchant"].steps[0].expires


def test_openssl_verifies_what_an_officer_signs(here: Office, officer: Officer, tmp_path: Path) -> None:
    drafted = draft(here)
    (tmp_path / "decision.p7s").write_bytes(officer.sign(drafted, now=NOW))
    here.pki.write(tmp_path)
    command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", str(tmp_path / "decision.p7s")]
    judged = [*command, "-CAfile", str(tmp_path / "root.pem"), "-purpose", "any", "-attime", str(int(NOW.timestamp()))]
    out = subprocess.run([*judged, "-out", str(tmp_path / "content.der")], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert (tmp_path / "content.der").read_bytes() == drafted.content


def test_everything_that_is_signed_is_shown(here: Office) -> None:
    dossier = here.merchant_case(signals=("rejected_before",))
    shown = "\n".join(draft(here, dossier, reason="documents seen").lines)
    for value in (
        "APPROVE",
        "step vet of case case-1",
        MERCHANT.name,
        MERCHANT.iban,
        MERCHANT.origin or "",
        "iban_owner",
        "applicant-1 (Bookshop Co)",
        "rejected_before",
        "documents seen",
        dossier.revision.digest.hex(),
        dossier.evidence_digest.hex(),
        dossier.revision.csrs[0].spki_sha256.hex(),
        here.pack.digest.hex(),
    ):
        assert value in shown


def test_an_order_to_revoke_is_shown_and_counts(here: Office, officer: Officer) -> None:
    certificate = here.pki.merchant().certificate
    order = draft_revocation(certificate, "keyCompromise", now=NOW)
    shown = "\n".join(order.lines)
    assert f"{certificate.serial_number:x}" in shown
    assert "keyCompromise" in shown
    signed = officer.sign(order, now=NOW)
    assert decide_revocation([signed], here.pack, trust=here.pki.trust(), now=NOW).approved


def test_a_certificate_that_does_not_name_its_issuers_key_cannot_be_revoked_by_it(here: Office) -> None:
    with pytest.raises(OfficerKeyError, match="by which key"):
        draft_revocation(here.pki.root.certificate, "keyCompromise", now=NOW)


@pytest.mark.parametrize("passphrase", [None, Secret(b"battery staple")])
def test_the_key_opens_only_with_its_passphrase(here: Office, tmp_path: Path, passphrase: Secret | None) -> None:
    with pytest.raises(OfficerKeyError, match="passphrase"):
        load_officer(*files(tmp_path, here.vetter), passphrase)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(OfficerKeyError, match=r"none\.pem"):
        load_officer(tmp_path / "none.pem", tmp_path / "none.key", None)


def test_a_key_of_another_kind_is_refused(here: Office, tmp_path: Path) -> None:
    certificate, key = files(tmp_path, here.vetter)
    other = ed25519.Ed25519PrivateKey.generate()
    key.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(OfficerKeyError, match="neither an RSA nor an EC key"):
        load_officer(certificate, key, None)


def test_key_and_certificate_belong_together_and_to_an_officer(here: Office) -> None:
    with pytest.raises(OfficerKeyError, match="not the one of the certificate"):
        officer_of(here.vetter.certificate, here.vetter.chain, p256())
    with pytest.raises(OfficerKeyError, match="not one of an officer"):
        officer_of(here.ra.certificate, here.ra.chain, here.ra.key)


def test_the_root_stays_out_of_what_is_signed(here: Office, tmp_path: Path) -> None:
    certificate, key = files(tmp_path, here.vetter)
    certificate.write_bytes(certificate.read_bytes() + pem(here.pki.root.certificate))
    officer = load_officer(certificate, key, PASSPHRASE)
    assert here.pki.root.certificate not in officer.chain
    assert officer.sign(draft(here), now=NOW)
    assert draft(here).content_type == CT_DECISION
