"""Hostile twins of every profile: a golden certificate with one rule flipped, and who refuses it.

The table says of each twin which of the two judges must refuse it: `path`, the relying party (`validate_path`), or
`lint`, the CA's own rules before it signs. What only `lint` refuses binds the issuer and endangers nobody who checks a
path; what only `path` refuses is no matter of contents. A twin that one judge refuses against the table fails as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.lints import lint
from ca.profile import profiles
from pki.crl import CrlSet
from pki.errors import PathError
from pki.extensions import CertificateType
from pki.oids import POLICY_OFFICER, POLICY_SERVICE
from pki.path import Trust, validate_path
from pki.roles import ONLY_USAGE, Role
from tests.support.golden import PUBLICATION, SIGNING_PROFILES, Golden
from tests.support.pki_factory import key_usage, rsa_key

NOW: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
_DAY: Final = timedelta(days=1)


@dataclass
class Draft:
    """A certificate taken apart."""

    golden: Golden
    profile: str
    not_before: datetime
    not_after: datetime
    extensions: dict[x509.ObjectIdentifier, tuple[x509.ExtensionType, bool]] = field(default_factory=dict)
    forged: bool = False

    @property
    def role(self) -> Role:
        return Role(profiles()[self.profile].role)

    @property
    def issuer(self) -> str:
        """The profile of the authority; of the root, its own."""
        named = profiles()[self.profile].issuer
        return self.profile if named == "self" else named

    def put(self, value: x509.ExtensionType, *, critical: bool) -> None:
        self.extensions[value.oid] = value, critical

    def value(self, kind: type[x509.ExtensionType]) -> x509.ExtensionType:
        return self.extensions[kind.oid][0]

    def flip(self, oid: x509.ObjectIdentifier) -> None:
        value, critical = self.extensions[oid]
        self.extensions[oid] = value, not critical

    def signed(self) -> x509.Certificate:
        made, issuer = self.golden[self.profile], self.golden[self.issuer]
        builder = (
            x509.CertificateBuilder()
            .subject_name(made.certificate.subject)
            .issuer_name(made.certificate.issuer)
            .public_key(made.certificate.public_key())
            .serial_number(made.certificate.serial_number)
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_after)
        )
        for value, critical in self.extensions.values():
            builder = builder.add_extension(value, critical=critical)
        key = issuer.key
        if self.forged:
            key = rsa_key(1) if isinstance(key, rsa.RSAPrivateKey) else ec.generate_private_key(key.curve)
        wide = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256
        return builder.sign(key, hashes.SHA384() if wide else hashes.SHA256())


def wrong_key_usage(draft: Draft) -> None:
    draft.put(key_usage({"crl_sign"} if draft.role.profile.is_ca else {"key_agreement"}), critical=True)


def no_key_usage(draft: Draft) -> None:
    del draft.extensions[x509.KeyUsage.oid]


def wrong_extended_key_usage(draft: Draft) -> None:
    other = ExtendedKeyUsageOID.TIME_STAMPING if draft.role is Role.OCSP_RESPONDER else ExtendedKeyUsageOID.OCSP_SIGNING
    draft.put(x509.ExtendedKeyUsage([other]), critical=draft.role is Role.TIMESTAMP_AUTHORITY)


def no_extended_key_usage(draft: Draft) -> None:
    del draft.extensions[x509.ExtendedKeyUsage.oid]


def wrong_policy(draft: Draft) -> None:
    policy = POLICY_SERVICE if draft.role is Role.OFFICER else POLICY_OFFICER
    draft.put(x509.CertificatePolicies([x509.PolicyInformation(policy, None)]), critical=False)


def no_policy(draft: Draft) -> None:
    del draft.extensions[x509.CertificatePolicies.oid]


def other_ca_flag(draft: Draft) -> None:
    draft.put(x509.BasicConstraints(ca=not draft.role.profile.is_ca, path_length=None), critical=True)


def longer_path(draft: Draft) -> None:
    stated = draft.value(x509.BasicConstraints)
    assert isinstance(stated, x509.BasicConstraints)
    draft.put(x509.BasicConstraints(ca=True, path_length=(stated.path_length or 0) + 1), critical=True)


def wrong_authority_key_identifier(draft: Draft) -> None:
    draft.put(x509.AuthorityKeyIdentifier(bytes(20), None, None), critical=False)


def wrong_subject_key_identifier(draft: Draft) -> None:
    draft.put(x509.SubjectKeyIdentifier(bytes(20)), critical=False)


def outlives_its_issuer(draft: Draft) -> None:
    draft.not_after = draft.golden[draft.issuer].certificate.not_valid_after_utc + _DAY


def begins_tomorrow(draft: Draft) -> None:
    draft.not_before = NOW + _DAY


def has_ended(draft: Draft) -> None:
    draft.not_after = NOW - timedelta(minutes=1)


def wrong_certificate_type(draft: Draft) -> None:
    draft.extensions[CertificateType.OID] = CertificateType(frozenset({"acq"})).to_extension(), False


def unknown_critical(draft: Draft) -> None:
    draft.put(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), critical=True)


def other_lists(draft: Draft) -> None:
    elsewhere = x509.UniformResourceIdentifier("http://elsewhere.invalid/crl")
    points = [x509.DistributionPoint([elsewhere], None, None, None)]
    draft.put(x509.CRLDistributionPoints(points), critical=False)


def signed_by_another_key(draft: Draft) -> None:
    draft.forged = True


def flipped(oid: x509.ObjectIdentifier) -> Callable[[Draft], None]:
    return lambda draft: draft.flip(oid)


BOTH, LINT, PATH = {"lint", "path"}, {"lint"}, {"path"}
EVERY = frozenset(profiles())
ROOT = frozenset({"root"})
CAS = frozenset(SIGNING_PROFILES)
TYPED = frozenset(name for name in EVERY if Role(profiles()[name].role).profile.certificate_type)
SOLE_USAGE = frozenset(name for name in EVERY if Role(profiles()[name].role) in ONLY_USAGE)

TWINS: Final[list[tuple[str, Callable[[Draft], None], set[str], frozenset[str]]]] = [
    ("keyUsage of another role", wrong_key_usage, BOTH, EVERY),
    ("no keyUsage", no_key_usage, BOTH, EVERY),
    ("keyUsage not critical", flipped(x509.KeyUsage.oid), LINT, EVERY),
    ("extendedKeyUsage of another role", wrong_extended_key_usage, BOTH, EVERY),
    ("no extendedKeyUsage", no_extended_key_usage, BOTH, SOLE_USAGE),
    ("policy of another role", wrong_policy, BOTH, EVERY),
    ("no policy", no_policy, BOTH, EVERY - ROOT),
    ("policies critical", flipped(x509.CertificatePolicies.oid), LINT, EVERY - ROOT),
    ("CA flag flipped", other_ca_flag, BOTH, EVERY),
    ("basicConstraints not critical", flipped(x509.BasicConstraints.oid), LINT, CAS),
    ("a longer path", longer_path, LINT, CAS),
    ("authorityKeyIdentifier of another key", wrong_authority_key_identifier, BOTH, EVERY - ROOT),
    ("subjectKeyIdentifier of another key", wrong_subject_key_identifier, LINT, EVERY),
    ("longer than its issuer", outlives_its_issuer, LINT, EVERY - ROOT),
    ("not yet valid", begins_tomorrow, BOTH, EVERY),
    ("ended", has_ended, PATH, EVERY),
    ("certificateType of another role", wrong_certificate_type, BOTH, EVERY),
    ("certificateType critical", flipped(CertificateType.OID), BOTH, TYPED),
    ("unknown critical extension", unknown_critical, BOTH, EVERY),
    ("lists elsewhere", other_lists, LINT, EVERY),
    ("signed by another key", signed_by_another_key, PATH, EVERY - ROOT),
]


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden(NOW)


def draft_of(golden: Golden, profile: str) -> Draft:
    made = golden[profile].certificate
    stated = {extension.oid: (extension.value, extension.critical) for extension in made.extensions}
    return Draft(golden, profile, made.not_valid_before_utc, made.not_valid_after_utc, stated)


def refused_by(draft: Draft) -> set[str]:
    golden, twin = draft.golden, draft.signed()
    issuer = None if draft.issuer == draft.profile else golden.issuer(draft.issuer)
    made_at = NOW - _DAY + timedelta(minutes=list(golden).index(draft.profile))
    findings = lint(
        twin.tbs_certificate_bytes,
        profiles()[draft.profile],
        issuer=issuer,
        issuer_key=golden[draft.issuer].certificate.public_key(),  # type: ignore[arg-type]
        publication=PUBLICATION,
        now=made_at,
    )
    refused = {"lint"} if findings else set()
    above = [golden[each].certificate for each in SIGNING_PROFILES if each != draft.profile]
    root = twin if draft.profile == "root" else golden["root"].certificate
    try:
        trust = Trust((root,), tuple(above), CrlSet(golden.crls()))
        validate_path(twin, trust=trust, now=NOW, roles={draft.role})
    except PathError:
        refused.add("path")
    return refused


@pytest.mark.parametrize("profile", sorted(EVERY))
def test_taken_apart_and_signed_again_it_is_accepted(golden: Golden, profile: str) -> None:
    assert refused_by(draft_of(golden, profile)) == set()


@pytest.mark.parametrize(("change", "judges", "of"), [pytest.param(*rest, id=name) for name, *rest in TWINS])
def test_one_rule_flipped_is_refused(
    golden: Golden, change: Callable[[Draft], None], judges: set[str], of: frozenset[str]
) -> None:
    verdicts = {}
    for profile in sorted(of):
        draft = draft_of(golden, profile)
        change(draft)
        verdicts[profile] = refused_by(draft)
    assert verdicts == dict.fromkeys(sorted(of), judges)
