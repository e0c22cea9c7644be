"""Cardholders' cases as the registration authority hands them to the CA, made by the hundred before a benchmark.

Each has a key, a card and a bank's confirmation of its own, and the decision of the RA's own key (`ra-system`), which
the HSM service signs. Nothing of it is kept for the benchmark but the dossiers.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from cps.card_confirmation import build_card_confirmation
from cps.decision import Choice, Decision, build_decision
from cps.dossier import Author, CardholderSubject, CpsPin, CsrDigest, Dossier, Evidence, Revision
from cps.packs import published
from hsm_service.client import HsmClient
from hsm_service.wire import BatchItem
from pki import cms_signed
from pki.der import sha256
from pki.keys import spki_sha256
from pki.names import name
from pki.oids import CT_CARD_CONFIRMATION, CT_DECISION
from runtime.settings import Home, Settings
from scripts.benchmarks.report import BenchmarkFailed

BIN: Final = "603770"
_CONFIRMATION: Final = "issuer_bank_confirmation"
_AT_ONCE: Final = 250  # decisions that are signed together


class CaseMaker:
    """Makes approved cases with the keys of the installation at `home`; its HSM service runs."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._url = Settings.load(home).hsm.url
        files = home.tls_files(f"issuer-{BIN}")
        self._bank_key: PrivateKeyTypes = load_pem_private_key(files.key.read_bytes(), None)
        self._bank, *self._chain = x509.load_pem_x509_certificates(files.certificate.read_bytes())

    def make(self, count: int) -> list[Dossier]:
        """So many cases, approved now."""
        now = datetime.now(UTC)
        cases = [undecided(self._bank_key, self._bank, self._chain, now) for _ in range(count)]
        with HsmClient.connect(self._url, self._home.tls_files("ra")) as hsm:
            return [
                decided
                for start in range(0, count, _AT_ONCE)
                for decided in _decided(hsm, cases[start : start + _AT_ONCE])
            ]


def undecided(
    bank_key: PrivateKeyTypes, bank: x509.Certificate, chain: Sequence[x509.Certificate], now: datetime
) -> Dossier:
    """A cardholder's case with a new key and a new card, which this bank confirmed at `now` (aware)."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(name(cn="cardholder"))
    csr = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    spki = spki_sha256(key.public_key())
    commitment = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    confirmation = build_card_confirmation(
        commitment=commitment,
        spki_sha256=spki,
        bin_=BIN,
        expires_at=now + timedelta(days=700),
        issuer="Bank",
        date=now,
    )
    body = cms_signed.sign(
        CT_CARD_CONFIRMATION,
        confirmation,
        key=bank_key,
        signer=bank,
        chain=chain,
        signing_time=now,
    )
    evidence = Evidence(
        kind=_CONFIRMATION,
        sha256=sha256(body),
        source=f"issuer-{BIN}",
        collected_by="service:ra",
        collected_at=now,
        body=body,
    )
    revision = Revision(
        application_id=secrets.token_hex(16),
        number=1,
        authors=(Author(person="service:ra"),),
        subject=CardholderSubject(commitment=commitment, bin=BIN),
        csrs=(CsrDigest(purpose="signing", sha256=sha256(csr), spki_sha256=spki),),
        cps=CpsPin.of(published()),
    )
    return Dossier(revision=revision, csrs={"signing": csr}, evidence=(evidence,))


def approval(case: Dossier, now: datetime) -> bytes:
    """What the RA's own key signs of a case that is approved at `now` (aware, whole seconds)."""
    revision = case.revision
    return build_decision(
        Decision(
            revision.application_id,
            revision.digest,
            case.evidence_digest,
            "auto",
            Choice.APPROVE,
            "",
            now,
            now + timedelta(days=1),
        )
    )


def _decided(hsm: HsmClient, cases: list[Dossier]) -> list[Dossier]:
    now = datetime.now(UTC).replace(microsecond=0)
    items = [BatchItem(approval(case, now), CT_DECISION.dotted_string) for case in cases]
    answers = hsm.batch_sign("ra-system", "cms", items).items
    if any(answer.signed is None for answer in answers):
        raise BenchmarkFailed("a decision was not signed")
    return [
        case.with_decision(answer.signed)
        for case, answer in zip(cases, answers, strict=True)
        if answer.signed is not None
    ]
