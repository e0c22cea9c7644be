"""What the application itself must fulfil, whoever decides: the pinned statement, names, requests and keys.

Every finding here is about the revision, so it refuses: only another revision can mend it. The subject and extensions
inside a PKCS#10 request are never used; a request proves possession of a key, the revision says what is certified.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from cps.dossier import CsrDigest, Dossier, OfficerSubject, rule_of
from cps.granting import check_roles
from cps.model import ClassRule, KeyAlternative, KeyRule, Pack, Purpose
from cps.rules import Rule
from cps.verdict import Findings
from pki.csr import requested_key
from pki.der import sha256
from pki.errors import CsrError
from runtime.language import Listed, Term, terms

_CARD_NUMBER: Final = re.compile(r"(?<!\d)\d(?:[ -]?\d){15,18}(?!\d)")
_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384"}


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """What the caller's registers say of the keys of a case, by SHA-256 of SubjectPublicKeyInfo.

    `certified`: certified before, in another case. `denylisted`: reported compromised.
    """

    certified: frozenset[bytes] = frozenset()
    denylisted: frozenset[bytes] = frozenset()


def check_application(dossier: Dossier, pack: Pack, *, known_keys: KnownKeys, now: datetime, found: Findings) -> None:
    """Add a finding for each rule that the revision and its requests break."""
    member = rule_of(dossier.revision, pack)
    _check_pack(dossier, pack, now, found)
    _check_subject(dossier, pack, member, now, found)
    _check_requests(dossier, member, pack.key_rules[member.key.inherit], known_keys, found)


def _check_pack(dossier: Dossier, pack: Pack, now: datetime, found: Findings) -> None:
    pin = dossier.revision.cps
    if (pin.id, pin.version, pin.digest) != (pack.cps.id, pack.cps.version, pack.digest):
        found.add(Rule.PACK_PIN, "the revision was made under another version of the statement; amend it")
    if now < pack.cps.effective:
        found.add(Rule.PACK_EFFECTIVE, "the statement binds from {time}", time=pack.cps.effective)
    unknown = sorted(set(dossier.revision.signals) - set(pack.risk.signals))
    if unknown:
        found.add(
            Rule.APP_SIGNAL,
            "screening reports {signals}, which the statement does not weigh",
            signals=Listed(tuple(unknown)),
        )


def _check_subject(dossier: Dossier, pack: Pack, member: ClassRule, now: datetime, found: Findings) -> None:
    subject = dossier.revision.subject
    texts = list(_texts(subject.model_dump(mode="python")))  # text alone: random bytes, such as a salt, are not read
    if "pan" in member.subject.forbid and any(_has_card_number(text) for text in texts):
        found.add(Rule.NAME_FORBIDDEN, "a field of the subject holds what reads like a card number")
    if "email" in member.subject.forbid and any("@" in text for text in texts):
        found.add(Rule.NAME_FORBIDDEN, "a field of the subject holds what reads like an e-mail address")
    if isinstance(subject, OfficerSubject):
        check_roles(subject, pack, now=now, found=found)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for member in value.values():
            yield from _texts(member)
    elif isinstance(value, tuple):
        for member in value:
            yield from _texts(member)
    elif isinstance(value, str):
        yield value


def _has_card_number(text: str) -> bool:
    return any(_luhn(re.sub(r"\D", "", match.group())) for match in _CARD_NUMBER.finditer(text))


def _luhn(digits: str) -> bool:
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _check_requests(dossier: Dossier, member: ClassRule, rule: KeyRule, known_keys: KnownKeys, found: Findings) -> None:
    entries = {entry.purpose: entry for entry in dossier.revision.csrs}
    purposes = set(entries)
    fits = set(member.csrs.required) <= purposes <= set(member.csrs.all)
    if len(entries) != len(dossier.revision.csrs) or purposes != set(dossier.csrs) or not fits:
        found.add(
            Rule.APP_CSR,
            "requests for {purposes} are needed, each once, and the dossier carries what it names",
            purposes=terms("purpose", member.csrs.required),
        )
        return
    if "reused" in rule.reject and len({entry.spki_sha256 for entry in entries.values()}) != len(entries):
        found.add(Rule.KEY_REUSED, "two purposes share one key")
    for purpose, entry in entries.items():
        _check_request(purpose, entry, dossier.csrs[purpose], rule, found)
        if "reused" in rule.reject and entry.spki_sha256 in known_keys.certified:
            found.add(Rule.KEY_REUSED, "the {purpose} key was certified before", purpose=Term("purpose", purpose))
        if "denylisted" in rule.reject and entry.spki_sha256 in known_keys.denylisted:
            found.add(
                Rule.KEY_DENYLISTED, "the {purpose} key was reported compromised", purpose=Term("purpose", purpose)
            )


def _check_request(purpose: Purpose, entry: CsrDigest, der: bytes, rule: KeyRule, found: Findings) -> None:
    try:
        requested = requested_key(der)
    except CsrError as error:
        found.add(
            rule_of_csr_error(error, der, rule),
            "the {purpose} request: {fault}",
            purpose=Term("purpose", purpose),
            fault=Term("reason", error.reason, error.detail),
        )
        return
    key = requested.public_key
    if sha256(der) != entry.sha256 or requested.spki_sha256 != entry.spki_sha256:
        found.add(
            Rule.APP_CSR,
            "the {purpose} request is not the one that the revision names",
            purpose=Term("purpose", purpose),
        )
    if not _allowed(key, rule):
        found.add(
            Rule.KEY_SIZE,
            "the {purpose} key is of a kind or size that the class does not allow",
            purpose=Term("purpose", purpose),
        )
    if purpose == "encryption" and not isinstance(key, rsa.RSAPublicKey):
        found.add(Rule.KEY_SIZE, "an encryption key is an RSA key: orders are sealed with RSAES-OAEP")


def rule_of_csr_error(error: CsrError, der: bytes, rule: KeyRule) -> Rule:
    """The rule that a request breaks which `pki.csr.parse_csr` refused with `error`; `der` are the bytes it read."""
    if error.reason == "bad_signature":
        return Rule.APP_POP
    if error.reason == "weak_key":
        allowed = _allowed(x509.load_der_x509_csr(der).public_key(), rule)
        return Rule.KEY_QUALITY if allowed else Rule.KEY_SIZE
    return Rule.KEY_SIZE if error.reason == "weak_algorithm" else Rule.APP_CSR


def _allowed(key: PublicKeyTypes, rule: KeyRule) -> bool:
    return any(_is(key, alternative) for alternative in rule.any_of)


def _is(key: PublicKeyTypes, alternative: KeyAlternative) -> bool:
    if isinstance(key, rsa.RSAPublicKey) and alternative.rsa is not None:
        return key.key_size >= alternative.rsa.min and key.public_numbers().e in alternative.rsa.e
    return isinstance(key, ec.EllipticCurvePublicKey) and _CURVES.get(key.curve.name) in alternative.ec
