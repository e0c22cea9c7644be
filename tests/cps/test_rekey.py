"""Re-key: fewer steps for whoever proves the old key, and for nobody else and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding

from cps.decide import NextStep, Status, Verdict, decide
from cps.dossier import Dossier, MerchantSubject
from cps.entitlement import KINDS, entitlement, entitlements
from cps.errors import StatementError
from cps.model import Purpose, load_pack
from cps.rekey import purposes_to_prove
from cps.rekey_statement import RekeyTBS, build_rekey, parse_rekey
from cps.rules import Rule
from pki import cms_signed
from pki.der import encode, sha256
from pki.extensions import IdentityChecked
from pki.keys import spki_sha256
from pki.oids import CT_DECISION, CT_REKEY
from pki.path import Trust
from pki.roles import Role
from tests.cps.test_model import TEXT
from tests.support.cps_cases import DAY, GATEWAY, MERCHANT, MINUTE, Office, csr, evidence
from tests.support.pki_factory import NOW, Credential, PkiFactory, p256, rsa_key

NEXT = p256()
NEXT_REQUEST = csr(NEXT)
NEXT_TLS = csr(p256())


def certified(
    office: Office,
    purpose: Purpose = "signing",
    subject: Any = MERCHANT,
    *,
    checked_at: datetime | None = None,
    **changes: Any,
) -> Credential:
    """A certificate that says exactly what the case of `subject` entitles to.

    `checked_at`: it came of a re-key, and says that registers were last asked about its holder then.
    """
    dossier = office.case(subject, {purpose: NEXT_REQUEST})
    holder = entitlement(dossier, office.pack, purpose, not_after=None).holder
    uris = [each.value for each in holder.alternative_names if isinstance(each, x509.UniformResourceIdentifier)]
    names = [each.value for each in holder.alternative_names if isinstance(each, x509.DNSName)]
    fields: dict[str, Any] = {
        "subject": holder.subject,
        "uris": uris,
        "own": [each.to_extension() for each in (*holder.extensions, *_checked(checked_at))],
        "issuer": office.pki.gateway_ca if subject.member_class == "gateway" else office.pki.merchant_ca,
    }
    if purpose == "tls":
        return office.pki.leaf(
            Role.SERVICE, office.pki.operations_ca, subject=holder.subject, uris=uris, dns=names, **changes
        )
    role = KINDS[subject.member_class, purpose].role
    return office.pki.leaf(role, **{**fields, **changes})


def _checked(at: datetime | None) -> tuple[IdentityChecked, ...]:
    return () if at is None else (IdentityChecked(at),)


def digest(certificate: x509.Certificate) -> bytes:
    return sha256(certificate.public_bytes(Encoding.DER))


def proof(
    old: Credential,
    *,
    by: Credential | None = None,
    application_id: str = "case-1",
    keys: list[bytes] | None = None,
    content_type: x509.ObjectIdentifier = CT_REKEY,
    content: bytes | None = None,
    at: Any = NOW,
    beside: Credential | None = None,
) -> bytes:
    """A proof of the old key, by itself unless told otherwise; `beside` is the old one of a key that cannot sign."""
    by = by or old
    named = keys if keys is not None else [spki_sha256(NEXT.public_key())]
    other = None if beside is None else beside.certificate
    content = content or build_rekey(application_id, old.certificate, named, at, beside=other)
    return cms_signed.sign(content_type, content, key=by.key, signer=by.certificate, chain=by.chain, signing_time=at)


def rekeyed(office: Office, old: Credential, *proofs: bytes, **changes: Any) -> Dossier:
    """The case of a merchant who asks for the next key."""
    changes.setdefault("subject", MERCHANT)
    changes.setdefault("replaces", {"signing": digest(old.certificate)})
    changes.setdefault("csrs", {"signing": NEXT_REQUEST})
    pieces = tuple(evidence("old_key", at=NOW, body=body) for body in proofs)
    return office.case(pieces=pieces, **changes)


Judge = Callable[[Dossier], Verdict]


@pytest.fixture(scope="module")
def judge(office: Office, trust: Trust) -> Judge:
    return lambda dossier: decide(dossier, office.pack, trust=trust, now=NOW)


@pytest.fixture(scope="module")
def old(office: Office) -> Credential:
    return certified(office)


def codes(verdict: Verdict) -> list[Rule]:
    return [finding.code for finding in verdict.findings]


def test_one_officer_is_enough_for_whoever_proves_the_old_key(office: Office, judge: Judge, old: Credential) -> None:
    case = rekeyed(office, old, proof(old))
    verdict = judge(case)
    assert (verdict.findings, verdict.next_step) == ((), NextStep("approve", ("approving_officer",), 1))
    assert judge(office.decided(case, "approve", office.approver)).approved


def test_the_registration_authority_says_that_it_saw_the_old_key_in_tls(
    office: Office, judge: Judge, old: Credential
) -> None:
    assert judge(rekeyed(office, old, proof(old, by=office.ra))).findings == ()


def test_what_was_seen_in_tls_is_one_signing_key(office: Office, judge: Judge, old: Credential) -> None:
    """A connection proves one key and carries one request."""
    tls = certified(office, "tls")
    keys = [spki_sha256(x509.load_der_x509_csr(der).public_key()) for der in (NEXT_REQUEST, NEXT_TLS)]
    case = rekeyed(
        office,
        old,
        *(proof(each, by=office.ra, keys=keys) for each in (old, tls)),
        csrs={"signing": NEXT_REQUEST, "tls": NEXT_TLS},
        replaces={"signing": digest(old.certificate), "tls": digest(tls.certificate)},
    )
    assert codes(judge(case)) == [Rule.REKEY_PROOF, Rule.REKEY_PROOF]


def test_a_key_of_a_kind_that_the_class_does_not_have_is_not_replaced(
    office: Office, judge: Judge, old: Credential
) -> None:
    named = digest(old.certificate)
    verdict = judge(rekeyed(office, old, proof(old), replaces={"signing": named, "encryption": named}))
    assert (verdict.status, codes(verdict)) == (Status.REFUSED, [Rule.REKEY_PROOF, Rule.REKEY_PROOF])


def test_a_request_that_did_not_travel_is_not_certified(office: Office, judge: Judge, old: Credential) -> None:
    verdict = judge(rekeyed(office, old, proof(old)).model_copy(update={"csrs": {"tls": NEXT_TLS}}))
    assert (verdict.status, codes(verdict)) == (Status.REFUSED, [Rule.APP_CSR, Rule.REKEY_PROOF])


def test_a_second_certificate_is_proven_by_its_own_key(office: Office, judge: Judge, old: Credential) -> None:
    tls = certified(office, "tls")
    keys = [spki_sha256(x509.load_der_x509_csr(der).public_key()) for der in (NEXT_REQUEST, NEXT_TLS)]
    changes: dict[str, Any] = {
        "csrs": {"signing": NEXT_REQUEST, "tls": NEXT_TLS},
        "replaces": {"signing": digest(old.certificate), "tls": digest(tls.certificate)},
    }
    both = [proof(each, keys=keys) for each in (old, tls)]
    assert judge(rekeyed(office, old, *both, **changes)).findings == ()
    assert codes(judge(rekeyed(office, old, both[0], **changes))) == [Rule.REKEY_PROOF]
    changes["replaces"] = {"signing": digest(old.certificate)}
    assert Rule.REKEY_PROOF in codes(judge(rekeyed(office, old, *both, **changes)))


# The chain of re-keys

CHAIN = timedelta(days=825)


def test_a_chain_of_rekeys_ends(office: Office, trust: Trust) -> None:
    """Nobody has asked a register about the member since: the case is refused, to the second, and a new one due."""
    old = certified(office, checked_at=NOW - CHAIN)
    case = office.decided(rekeyed(office, old, proof(old)), "approve", office.approver)
    last = decide(case, office.pack, trust=trust, now=NOW)
    assert (last.approved, last.holds_until) == (True, NOW + timedelta(seconds=1))
    verdict = decide(case, office.pack, trust=trust, now=NOW + timedelta(seconds=1))
    assert (verdict.status, codes(verdict)) == (Status.REFUSED, [Rule.REKEY_AGE])
    assert (verdict.broken, verdict.findings[0].clause) == (verdict.findings, "CPS 3.3.1")
    assert verdict.holds_until != NOW


def test_without_a_rekey_before_it_the_chain_began_with_the_certificate(office: Office, trust: Trust) -> None:
    old = certified(office, not_before=NOW - CHAIN - MINUTE, not_after=NOW + DAY)
    case = rekeyed(office, old, proof(old))
    assert codes(decide(case, office.pack, trust=trust, now=NOW)) == [Rule.REKEY_AGE]


def test_the_next_certificate_says_when_the_chain_began(office: Office, old: Credential) -> None:
    """So whoever is asked for the one after it need not remember."""
    began = NOW - 100 * DAY
    for replaced, expected in (
        (certified(office, checked_at=began), began),
        (old, old.certificate.not_valid_before_utc),
    ):
        case = rekeyed(office, replaced, proof(replaced))
        extensions = entitlement(case, office.pack, "signing", not_after=None).holder.extensions
        assert [each.at for each in extensions if isinstance(each, IdentityChecked)] == [expected]
    first = entitlement(office.merchant_case(), office.pack, "signing", not_after=None)
    assert not any(isinstance(each, IdentityChecked) for each in first.holder.extensions)


def test_the_oldest_of_several_chains_counts(office: Office, judge: Judge) -> None:
    old, tls = certified(office), certified(office, "tls", not_before=NOW - CHAIN - MINUTE, not_after=NOW + DAY)
    keys = [spki_sha256(x509.load_der_x509_csr(der).public_key()) for der in (NEXT_REQUEST, NEXT_TLS)]
    case = rekeyed(
        office,
        old,
        *(proof(each, keys=keys) for each in (old, tls)),
        csrs={"signing": NEXT_REQUEST, "tls": NEXT_TLS},
        replaces={"signing": digest(old.certificate), "tls": digest(tls.certificate)},
    )
    assert codes(judge(case)) == [Rule.REKEY_AGE]


def test_what_nobody_can_read_began_never(office: Office, judge: Judge, old: Credential) -> None:
    bad = certified(office, own=[x509.UnrecognizedExtension(IdentityChecked.OID, b"\x05\x00")])
    assert Rule.REKEY_AGE in codes(judge(rekeyed(office, bad, proof(bad))))


def test_a_certificate_that_the_revision_does_not_name_proves_no_age(office: Office, judge: Judge) -> None:
    """A younger one beside the old one changes nothing."""
    old, young = certified(office, checked_at=NOW - CHAIN - MINUTE), certified(office)
    assert codes(judge(rekeyed(office, old, proof(young), proof(old)))) == [Rule.REKEY_AGE]


def test_the_statement_lets_no_chain_be_longer_than_825_days() -> None:
    from cps.errors import PackError

    for age in ("P826D", "PT0S"):
        with pytest.raises(PackError, match="max_chain_age"):
            load_pack(TEXT.replace("max_chain_age: P825D", f"max_chain_age: {age}"))


# Gateways, whose encryption key cannot sign


@dataclass(frozen=True)
class Gate:
    """A gateway's old certificates and its next requests."""

    signing: Credential
    encryption: Credential
    csrs: dict[Purpose, bytes]

    @property
    def keys(self) -> list[bytes]:
        return [spki_sha256(x509.load_der_x509_csr(der).public_key()) for der in self.csrs.values()]

    def case(self, office: Office, *proofs: bytes, subject: Any = GATEWAY, **changes: Any) -> Dossier:
        named = {"signing": digest(self.signing.certificate), "encryption": digest(self.encryption.certificate)}
        changes.setdefault("replaces", named)
        pieces = (
            *(evidence("old_key", at=NOW, body=body) for body in proofs),
            *(evidence("key_attestation", at=NOW, body=office.attestation(key)) for key in self.keys),
        )
        return office.case(subject, self.csrs, pieces, **changes)

    def proof(self, **changes: Any) -> bytes:
        changes.setdefault("beside", self.encryption)
        return proof(self.signing, keys=self.keys, **changes)


@pytest.fixture(scope="module")
def gate(office: Office) -> Gate:
    csrs: dict[Purpose, bytes] = {"signing": NEXT_REQUEST, "encryption": csr(rsa_key(1))}
    return Gate(certified(office, "signing", GATEWAY), certified(office, "encryption", GATEWAY), csrs)


def test_a_gateway_is_rekeyed_with_the_certificate_of_its_encryption_key(
    office: Office, judge: Judge, gate: Gate
) -> None:
    verdict = judge(gate.case(office, gate.proof()))
    assert (verdict.findings, verdict.next_step) == ((), NextStep("approve", ("approving_officer",), 1))


def test_a_rekey_changes_no_sealing_suites(office: Office, judge: Judge, gate: Gate) -> None:
    """Which are in the certificate of the key that proves nothing."""
    subject = GATEWAY.model_copy(update={"suites": ("oaep-sha1",)})
    case = office.decided(gate.case(office, gate.proof(), subject=subject), "approve", office.approver)
    verdict = judge(case)
    assert (verdict.approved, codes(verdict)) == (False, [Rule.REKEY_SUBJECT])


def test_the_certificate_of_the_encryption_key_is_one_of_ours_and_the_one_named(
    office: Office, judge: Judge, gate: Gate
) -> None:
    foreign = certified(Office(PkiFactory()), "encryption", GATEWAY)
    other = certified(office, "encryption", GATEWAY)
    of_signing = {"signing": digest(gate.signing.certificate)}
    for case in (
        gate.case(office, gate.proof(beside=None)),
        gate.case(office, gate.proof(beside=other)),
        gate.case(
            office, gate.proof(beside=foreign), replaces={**of_signing, "encryption": digest(foreign.certificate)}
        ),
        gate.case(office, gate.proof(), replaces={**of_signing, "encryption": digest(gate.signing.certificate)}),
    ):
        assert codes(judge(case)) == [Rule.REKEY_PROOF]
    verdict = judge(gate.case(office, gate.proof(), replaces=of_signing))
    assert (verdict.status, codes(verdict)) == (Status.REFUSED, [Rule.REKEY_PROOF])


def test_a_rekey_changes_no_fact_that_a_certificate_states(office: Office, judge: Judge, gate: Gate) -> None:
    """Of a gateway every field is in its certificates, but the hosts of a TLS server that it does not ask for."""
    others: dict[str, Any] = {
        "gateway_id": "GW-2",
        "name": "Other",
        "organisation": "Other Co",
        "acquirer_bin": "610433",
        "suites": ("oaep-sha1", "oaep-sha256"),
    }
    assert set(others) == set(type(GATEWAY).model_fields) - {"member_class", "hosts"}
    for field, value in others.items():
        subject = GATEWAY.model_copy(update={field: value})
        assert codes(judge(gate.case(office, gate.proof(), subject=subject))) == [Rule.REKEY_SUBJECT], field
    subject = GATEWAY.model_copy(update={"hosts": ("other.example",)})
    case = gate.case(office, gate.proof(), subject=subject)
    assert judge(case).findings == ()
    for entitled in entitlements(case, office.pack, not_after=None):
        assert "other.example" not in str(entitled.holder.alternative_names)


def test_an_encryption_key_needs_no_proof_of_its_own() -> None:
    assert purposes_to_prove(["signing", "encryption", "tls"]) == {"signing", "tls"}


def test_without_proof_nothing_is_certified(office: Office, judge: Judge, old: Credential) -> None:
    case = office.decided(rekeyed(office, old), "approve", office.approver)
    verdict = judge(case)
    assert (verdict.status, codes(verdict)) == (Status.PENDING, [Rule.EVID_MISSING])


def test_a_body_that_did_not_travel_proves_nothing(office: Office, judge: Judge, old: Credential) -> None:
    case = rekeyed(office, old).model_copy(update={"evidence": (evidence("old_key", at=NOW),)})
    assert codes(judge(case)) == [Rule.EVID_INVALID]


def test_whoever_names_no_replaced_certificate_is_not_rekeyed(office: Office, judge: Judge, old: Credential) -> None:
    verdict = judge(rekeyed(office, old, proof(old), replaces={}))
    assert (verdict.status, codes(verdict)) == (Status.REFUSED, [Rule.REKEY_PROOF])


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        pytest.param(lambda office, old: proof(old, by=office.bank), Rule.REKEY_PROOF, id="another-service"),
        pytest.param(lambda office, old: proof(old, by=office.approver), Rule.REKEY_PROOF, id="an-officer"),
        pytest.param(
            lambda office, old: proof(old, by=office.pki.merchant("M-2")), Rule.REKEY_PROOF, id="another-merchants-key"
        ),
        pytest.param(lambda _office, old: proof(old, application_id="case-2"), Rule.REKEY_PROOF, id="another-case"),
        pytest.param(lambda _office, old: proof(old, keys=[b"\x01" * 32]), Rule.REKEY_PROOF, id="another-new-key"),
        pytest.param(lambda office, _old: proof(certified(office)), Rule.REKEY_PROOF, id="another-old-certificate"),
        pytest.param(
            lambda _office, old: proof(old, content_type=CT_DECISION), Rule.EVID_INVALID, id="another-statement"
        ),
        pytest.param(lambda _office, old: proof(old, content=b"\x30\x00"), Rule.REKEY_PROOF, id="nothing-readable"),
        pytest.param(lambda _office, old: proof(old, at=NOW - 8 * DAY), Rule.EVID_AGE, id="of-last-week"),
    ],
)
def test_a_proof_is_of_the_old_key_for_the_new_key_in_this_case(
    office: Office, judge: Judge, old: Credential, make: Callable[[Office, Credential], bytes], rule: Rule
) -> None:
    case = office.decided(rekeyed(office, old, make(office, old)), "approve", office.approver)
    verdict = judge(case)
    assert (verdict.approved, codes(verdict)) == (False, [rule])


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"name": "Other Shop"}, id="name"),
        pytest.param({"organisation": "Other Co"}, id="organisation"),
        pytest.param({"merchant_id": "M-2"}, id="merchant-id"),
        pytest.param({"origin": "https://other.example"}, id="origin"),
        pytest.param({"origin": None}, id="no-origin"),
        pytest.param({"iban_salt": b"\x02" * 16}, id="account"),
        pytest.param({"online": False}, id="merchant-data"),
        pytest.param({"country": 4}, id="country-that-is-not-certified"),
    ],
)
def test_a_rekey_says_nothing_new(office: Office, judge: Judge, old: Credential, changes: dict[str, Any]) -> None:
    subject = MerchantSubject.model_validate(MERCHANT.model_copy(update=changes).model_dump())
    verdict = judge(rekeyed(office, old, proof(old), subject=subject))
    assert codes(verdict) == [Rule.REKEY_SUBJECT]


def test_a_certificate_without_our_extensions_says_something_else(office: Office, judge: Judge) -> None:
    bare = certified(office, own=[])
    assert codes(judge(rekeyed(office, bare, proof(bare)))) == [Rule.REKEY_SUBJECT]


def test_a_certificate_of_another_role_is_not_replaced(office: Office, judge: Judge) -> None:
    tls = certified(office, "tls")
    assert codes(judge(rekeyed(office, tls, proof(tls)))) == [Rule.REKEY_PROOF]


def test_a_certificate_that_ended_or_was_revoked_is_not_replaced() -> None:
    here = Office(PkiFactory())
    ended = certified(here, not_before=NOW - 10 * DAY, not_after=NOW - MINUTE)
    revoked = certified(here)
    here.pki.revoke(revoked)
    for gone, at in ((ended, NOW - DAY), (revoked, NOW)):
        verdict = decide(rekeyed(here, gone, proof(gone, at=at)), here.pack, trust=here.pki.trust(), now=NOW)
        assert codes(verdict) == [Rule.REKEY_PROOF]


def test_a_revoked_authority_vouches_for_no_old_key() -> None:
    here = Office(PkiFactory())
    old = certified(here)
    here.pki.revoke(here.ra)
    case = rekeyed(here, old, proof(old, by=here.ra))
    verdict = decide(case, here.pack, trust=here.pki.trust(), now=NOW)
    assert codes(verdict) == [Rule.REKEY_PROOF]


def test_a_class_without_rekeys_applies_anew(office: Office, judge: Judge) -> None:
    case = office.officer_case(replaces={"signing": b"\x01" * 32})
    verdict = judge(case)
    assert (verdict.status, codes(verdict)) == (Status.REFUSED, [Rule.REKEY_CLASS])
    assert verdict.broken[0].message == "members of the class officer apply anew for each certificate"


def test_a_key_is_certified_once_also_in_a_rekey(office: Office, trust: Trust, old: Credential) -> None:
    from cps.decide import KnownKeys

    known = KnownKeys(certified=frozenset({spki_sha256(NEXT.public_key())}))
    verdict = decide(rekeyed(office, old, proof(old)), office.pack, trust=trust, now=NOW, known_keys=known)
    assert codes(verdict) == [Rule.KEY_REUSED]


def test_the_rules_of_a_rekey_need_the_old_key() -> None:
    from cps.errors import PackError

    text = TEXT.replace("[{kind: old_key, form: possession, max_age: P7D}]", "[{kind: old_key, max_age: P7D}]")
    with pytest.raises(PackError, match="rekey needs evidence of the form possession"):
        load_pack(text)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"version": 2}, "version 2, not 1"),
        ({"keys": []}, "1 to 8 new keys"),
        ({"keys": [b"\x01" * 31]}, "1 to 8 new keys"),
        ({"keys": [b"\x02" * 32, b"\x01" * 32]}, "ascending"),
        ({"keys": [b"\x01" * 32, b"\x01" * 32]}, "ascending"),
        ({"replaced": b"\x30\x00"}, "carries the certificate"),
        ({"beside": b"\x30\x00"}, "carries the certificate"),
    ],
)
def test_what_is_no_rekey_is_refused(old: Credential, changes: dict[str, Any], expected: str) -> None:
    fields: dict[str, Any] = {
        "version": 1,
        "application_id": "case-1",
        "replaced": old.certificate.public_bytes(Encoding.DER),
        "keys": [b"\x01" * 32],
        "date": asn1.GeneralizedTime(NOW),
    }
    with pytest.raises(StatementError, match=expected):
        parse_rekey(encode(RekeyTBS(**{**fields, **changes})))
