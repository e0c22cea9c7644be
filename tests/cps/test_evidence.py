"""Evidence: what must be on file, how old it may be, and who must have signed it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cps.decide import Finding, Status, decide
from cps.dossier import Dossier, Evidence
from cps.rules import Rule
from pki.keys import spki_sha256
from pki.oids import CT_CARD_CONFIRMATION, CT_KEY_ATTESTATION
from pki.path import Trust
from tests.support.cps_cases import DAY, GATEWAY, MINUTE, Office, csr, evidence
from tests.support.pki_factory import NOW, Credential, PkiFactory, p256, rsa_key

Findings = Callable[[Dossier], list[Finding]]


@pytest.fixture(scope="session")
def findings(office: Office, trust: Trust) -> Findings:
    """What holds a case that nobody has decided on yet."""

    def judge(dossier: Dossier) -> list[Finding]:
        verdict = decide(dossier, office.pack, trust=trust, now=NOW)
        assert verdict.status is Status.PENDING
        return list(verdict.findings)

    return judge


def _with(dossier: Dossier, *pieces: Evidence) -> Dossier:
    """The dossier with `pieces` in place of the evidence of their kinds."""
    kinds = {piece.kind for piece in pieces}
    kept = tuple(piece for piece in dossier.evidence if piece.kind not in kinds)
    return dossier.model_copy(update={"evidence": kept + pieces})


# Documents


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("acquirer_agreement", "no acquirer_agreement on file"),
        ("company_register", "company_register: no answer of the register on file"),
        ("iban_owner", "iban_owner: no answer of the register on file"),
    ],
)
def test_every_kind_of_evidence_is_on_file(office: Office, findings: Findings, kind: str, told: str) -> None:
    dossier = office.merchant_case()
    rest = tuple(piece for piece in dossier.evidence if piece.kind != kind)
    (finding,) = findings(dossier.model_copy(update={"evidence": rest}))
    assert (finding.code, finding.clause, finding.message) == (Rule.EVID_MISSING, "CPS 3.2.2", told)


@pytest.mark.parametrize(
    "times",
    [
        pytest.param({"at": NOW - 398 * DAY - MINUTE}, id="too-old"),
        pytest.param({"at": NOW + 3 * MINUTE}, id="from-the-future"),
        pytest.param({"at": NOW - DAY, "expires_at": NOW}, id="expired"),
    ],
)
def test_evidence_has_an_age(office: Office, findings: Findings, times: dict[str, Any]) -> None:
    (finding,) = findings(_with(office.merchant_case(), evidence("acquirer_agreement", **times)))
    assert (finding.code, finding.clause) == (Rule.EVID_AGE, "CPS 4.2.1")


def test_evidence_of_the_last_allowed_day_counts(office: Office, findings: Findings) -> None:
    piece = evidence("acquirer_agreement", at=NOW - 398 * DAY, expires_at=NOW + MINUTE)
    assert findings(_with(office.merchant_case(), piece)) == []


def test_one_good_piece_is_enough(office: Office, findings: Findings) -> None:
    old = evidence("acquirer_agreement", at=NOW - 400 * DAY)
    assert findings(_with(office.merchant_case(), evidence("acquirer_agreement"), old)) == []


def test_evidence_grows_too_old_while_a_case_waits(office: Office, trust: Trust) -> None:
    dossier = office.merchant_case()
    later = NOW + 31 * DAY
    verdict = decide(dossier, office.pack, trust=office.pki.trust(later), now=later)
    assert [finding.code for finding in verdict.findings] == [Rule.EVID_AGE]


# Attestation of the keys of a gateway


def _attested(office: Office, signing: bytes, **encryption: Any) -> Dossier:
    """A gateway whose signing key is attested by `signing` and whose encryption key is attested as it should be."""
    good = office.attestation(spki_sha256(rsa_key(0).public_key()), **encryption)
    return _with(
        office.gateway_case(), evidence("key_attestation", body=signing), evidence("key_attestation", body=good)
    )


@pytest.fixture(scope="session")
def spki(office: Office) -> bytes:
    return spki_sha256(office.signing_key.public_key())


@pytest.mark.parametrize(
    "attribute",
    [
        {"local": False},
        {"sensitive": False},
        {"always_sensitive": False},
        {"never_extractable": False},
        {"extractable": True},
    ],
)
def test_a_gateway_key_is_made_in_the_token_and_cannot_leave_it(
    office: Office, findings: Findings, spki: bytes, attribute: dict[str, Any]
) -> None:
    (finding,) = findings(_attested(office, office.attestation(spki, **attribute)))
    assert (finding.code, finding.clause) == (Rule.KEY_TOKEN, "CPS 6.2.1")
    assert "signing key" in finding.message


def test_the_key_of_a_gateways_tls_lives_in_a_file(office: Office, findings: Findings) -> None:
    attested = office.gateway_case()
    csrs = {**attested.csrs, "tls": csr(p256())}
    assert findings(office.case(GATEWAY, csrs, attested.evidence)) == []


def test_an_attestation_of_another_key_does_not_count(office: Office, findings: Findings) -> None:
    (finding,) = findings(_attested(office, office.attestation(b"\x09" * 32)))
    assert (finding.code, finding.message) == (
        Rule.KEY_TOKEN,
        "key_attestation of the signing key: none attests this key",
    )


def test_an_old_attestation_does_not_count(office: Office, findings: Findings, spki: bytes) -> None:
    (finding,) = findings(_attested(office, office.attestation(spki, at=NOW - 7 * DAY - MINUTE)))
    assert finding.code is Rule.EVID_AGE


@pytest.mark.parametrize(
    "signer",
    [
        pytest.param(lambda office: office.ra, id="another-service"),
        pytest.param(lambda office: office.vetter, id="an-officer"),
        pytest.param(lambda office: PkiFactory(brand="Another").service("hsm"), id="another-hierarchy"),
    ],
)
def test_only_the_token_service_attests(
    office: Office, findings: Findings, spki: bytes, signer: Callable[[Office], Credential]
) -> None:
    (finding,) = findings(_attested(office, office.attestation(spki, by=signer(office))))
    assert (finding.code, finding.clause) == (Rule.EVID_INVALID, "CPS 4.2.1")


def test_an_attestation_that_says_nothing_readable_does_not_count(office: Office, findings: Findings) -> None:
    (finding,) = findings(_attested(office, office.hsm.sign(CT_KEY_ATTESTATION, b"\x30\x00")))
    assert (finding.code, finding.message) == (
        Rule.EVID_INVALID,
        "key_attestation of the signing key: malformed",
    )


def test_an_attestation_travels_with_the_dossier(office: Office, findings: Findings) -> None:
    dossier = _with(office.gateway_case(), evidence("key_attestation"))
    assert [finding.code for finding in findings(dossier)] == [Rule.EVID_INVALID, Rule.EVID_INVALID]


# The issuing bank's confirmation of a card


def test_a_confirmation_is_needed(office: Office, findings: Findings) -> None:
    (finding,) = findings(office.cardholder_case().model_copy(update={"evidence": ()}))
    assert finding.code is Rule.EVID_MISSING


@pytest.mark.parametrize(
    ("changes", "rule", "clause"),
    [
        pytest.param({"commitment": "A" * 43}, Rule.EVID_CARD, "CPS 3.2.3", id="another-card"),
        pytest.param({"bin_": "610433"}, Rule.EVID_CARD, "CPS 3.2.3", id="another-bank"),
        pytest.param({"spki_sha256": b"\x09" * 32}, Rule.EVID_CARD, "CPS 3.2.3", id="another-key"),
        pytest.param({"expires_at": NOW}, Rule.EVID_CARD, "CPS 3.2.3", id="expired-card"),
        pytest.param({"date": NOW - DAY - MINUTE}, Rule.EVID_AGE, "CPS 4.2.1", id="too-old"),
        pytest.param({"date": NOW + timedelta(hours=1)}, Rule.EVID_AGE, "CPS 4.2.1", id="from-the-future"),
    ],
)
def test_the_bank_confirms_this_card_and_this_key_today(
    office: Office, findings: Findings, changes: dict[str, Any], rule: Rule, clause: str
) -> None:
    (finding,) = findings(office.cardholder_case(office.confirmation(**changes)))
    assert (finding.code, finding.clause) == (rule, clause)


@pytest.mark.parametrize(
    "signer",
    [
        pytest.param(lambda office: office.pki.service("issuer-610433"), id="another-bank"),
        pytest.param(lambda office: office.pki.merchant(), id="a-merchant"),
    ],
)
def test_only_the_bank_of_the_card_confirms_it(
    office: Office, findings: Findings, signer: Callable[[Office], Credential]
) -> None:
    (finding,) = findings(office.cardholder_case(office.confirmation(by=signer(office))))
    assert (finding.code, finding.clause) == (Rule.EVID_INVALID, "CPS 4.2.1")


def test_a_confirmation_that_says_nothing_readable_does_not_count(office: Office, findings: Findings) -> None:
    (finding,) = findings(office.cardholder_case(office.bank.sign(CT_CARD_CONFIRMATION, b"\x30\x00")))
    assert finding.code is Rule.EVID_INVALID


def test_a_confirmation_travels_with_the_dossier(office: Office, findings: Findings) -> None:
    (finding,) = findings(_with(office.cardholder_case(), evidence("issuer_bank_confirmation")))
    assert finding.code is Rule.EVID_INVALID


def test_of_several_confirmations_the_longest_counts(office: Office, trust: Trust) -> None:
    pieces = [
        evidence("issuer_bank_confirmation", body=office.confirmation(expires_at=NOW + days * DAY)) for days in (5, 9)
    ]
    dossier = office.decided(_with(office.cardholder_case(), *pieces), "auto", office.ra)
    assert decide(dossier, office.pack, trust=trust, now=NOW).not_after == NOW + 9 * DAY
