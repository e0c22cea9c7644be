"""Re-key: who holds a certificate asks for the next one, for a new key, and proves it with the old (RFC 3647 4.7).

    RekeyTBS ::= SEQUENCE {
      version        INTEGER (1),
      applicationId  UTF8String (SIZE(1..64)),
      replaced       OCTET STRING (SIZE(1..8192)),                    -- the certificate (DER) that is replaced
      keys           SEQUENCE SIZE(1..8) OF OCTET STRING (SIZE(32)),  -- SHA-256 of each new SubjectPublicKeyInfo,
      date           GeneralizedTime }                                -- ascending

It is the content of a CMS SignedData (CT_REKEY) by the replaced key itself; or by the registration authority's own key,
which then says that somebody proved the replaced key to it in TLS (RFC 7030 3.3.2). That word nobody can look at later,
so it counts only for what EST renews: one signing key, alone in its case. A re-key says nothing new: name, alternative
names and our extensions are those of the certificate that is replaced, so fewer officers need to look. What is to
change needs a new application, with every step of its class.

An encryption key cannot sign; it is replaced beside the signing key of the same case.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding

from cps.dossier import Dossier
from cps.entitlement import KINDS, entitlement
from cps.errors import EntitlementError, StatementError
from cps.model import SYSTEM, Pack, Purpose
from cps.rules import Rule
from cps.signatory import identify, open_signed
from cps.verdict import Findings
from pki.der import decode, encode, sha256
from pki.errors import DerError, PkiError
from pki.oids import CT_REKEY
from pki.path import Trust, validate_path
from runtime.language import Message, Term

VERSION: Final = 1
SIGNER: Final = "urn:kwbp:service:ra"
"""Who says so for a key that was proven in TLS."""
_MAX_SIZE: Final = 16_384
_MAX_CERTIFICATE: Final = 8192
_MAX_KEYS: Final = 8
_DIGEST: Final = 32
_CANNOT_SIGN: Final[frozenset[Purpose]] = frozenset({"encryption"})
_IN_TLS: Final[frozenset[Purpose]] = frozenset({"signing"})
"""What a case asks for whose old key was proven in TLS: a connection proves one key and carries one request."""


@asn1.sequence
class RekeyTBS:
    """DER form of a proof that somebody holds the key that is replaced."""

    version: int
    application_id: Annotated[str, asn1.Size(min=1, max=64)]
    replaced: Annotated[bytes, asn1.Size(min=1, max=_MAX_CERTIFICATE)]
    keys: list[bytes]
    date: asn1.GeneralizedTime


@dataclass(frozen=True, slots=True)
class Rekey:
    """The statement; `keys` are the new keys by the SHA-256 of their SubjectPublicKeyInfo."""

    application_id: str
    replaced: x509.Certificate
    keys: tuple[bytes, ...]
    date: datetime

    @property
    def replaced_sha256(self) -> bytes:
        """SHA-256 (32 bytes) of the replaced certificate, as `Revision.replaces` names it."""
        return sha256(self.replaced.public_bytes(Encoding.DER))


def build_rekey(application_id: str, replaced: x509.Certificate, keys: Collection[bytes], date: datetime) -> bytes:
    """DER of RekeyTBS; `keys` are SHA-256 of SubjectPublicKeyInfo, `date` is aware, cut to whole seconds of UTC."""
    return encode(
        RekeyTBS(
            version=VERSION,
            application_id=application_id,
            replaced=replaced.public_bytes(Encoding.DER),
            keys=sorted(keys),
            date=asn1.GeneralizedTime(date.astimezone(UTC).replace(microsecond=0)),
        )
    )


def parse_rekey(der: bytes) -> Rekey:
    """Read RekeyTBS. Raises StatementError unless it is exactly one, of version 1, with a certificate."""
    try:
        tbs = decode(RekeyTBS, der, limit=_MAX_SIZE)
    except DerError:
        raise StatementError("not a {kind} in DER", kind="RekeyTBS") from None
    if tbs.version != VERSION:
        raise StatementError(
            "{kind} of version {found}, not {expected}", kind="RekeyTBS", found=tbs.version, expected=VERSION
        )
    keys = tuple(tbs.keys)
    if not 1 <= len(keys) <= _MAX_KEYS or any(len(key) != _DIGEST for key in keys) or list(keys) != sorted(set(keys)):
        raise StatementError("a re-key names 1 to 8 new keys by their SHA-256, ascending")
    try:
        replaced = x509.load_der_x509_certificate(tbs.replaced)
    except ValueError:
        raise StatementError("a re-key carries the certificate that is replaced") from None
    return Rekey(tbs.application_id, replaced, keys, tbs.date.as_datetime())


def purposes_to_prove(purposes: Collection[Purpose]) -> frozenset[Purpose]:
    """Of the purposes of a case those whose old key must be proven: all that can sign."""
    return frozenset(purposes) - _CANNOT_SIGN


def check_rekey(dossier: Dossier, pack: Pack, found: Findings) -> None:
    """Add a finding if the revision says that it replaces certificates and the class or the requests do not fit."""
    revision = dossier.revision
    if revision.replaces is None:
        return
    if pack.classes[revision.member_class].rekey is None:
        found.add(
            Rule.REKEY_CLASS,
            "members of the class {member_class} apply anew for each certificate",
            member_class=Term("class", revision.member_class),
        )
    if set(revision.replaces) != purposes_to_prove([entry.purpose for entry in revision.csrs]):
        found.add(Rule.REKEY_PROOF, "the revision names the certificate that is replaced for each key that signs")


def check_possession(
    body: bytes, purpose: Purpose, dossier: Dossier, pack: Pack, *, trust: Trust, now: datetime
) -> tuple[Rule, Message] | Rekey:
    """Why a signed proof (CMS, DER) of the old key for `purpose` does not count; the statement if it does."""
    revision = dossier.revision
    try:
        signed = open_signed(body, CT_REKEY)
        rekey = parse_rekey(signed.content)
    except StatementError as error:
        return Rule.REKEY_PROOF, error.told
    except PkiError as error:
        return Rule.EVID_INVALID, Message("{reason}", reason=Term("reason", error.reason))
    if rekey.application_id != revision.application_id:
        return Rule.REKEY_PROOF, Message("it is about another case")
    if rekey.replaced_sha256 != (revision.replaces or {}).get(purpose):
        return Rule.REKEY_PROOF, Message("it replaces another certificate than the revision names")
    if list(rekey.keys) != sorted(entry.spki_sha256 for entry in revision.csrs):
        return Rule.REKEY_PROOF, Message("it asks for other keys than the revision")
    kind = KINDS.get((revision.member_class, purpose))
    if kind is None or purpose not in dossier.csrs:
        return Rule.REKEY_PROOF, Message("the case asks for no certificate that could replace it")
    try:
        if signed.signer != rekey.replaced:
            signatory = identify(signed, pack=pack, trust=trust, now=now)
            if signatory.lapsed is not None or signatory.roles != {SYSTEM}:
                return Rule.REKEY_PROOF, Message("neither the replaced key nor the registration authority signed it")
            if {entry.purpose for entry in revision.csrs} != _IN_TLS:
                return Rule.REKEY_PROOF, Message("in TLS a signing key alone is proven; here each old key signs itself")
        validate_path(rekey.replaced, signed.certificates, trust=trust, now=now, roles={kind.role})
    except PkiError as error:
        return Rule.REKEY_PROOF, Message(
            "the certificate that is replaced, or the one that says so, does not count: {reason}",
            reason=Term("reason", error.reason),
        )
    if not _says_the_same(rekey.replaced, dossier, purpose):
        return Rule.REKEY_SUBJECT, Message("the certificate that is replaced says something else than this case")
    return rekey


def _says_the_same(replaced: x509.Certificate, dossier: Dossier, purpose: Purpose) -> bool:
    """Whether the next certificate would say what the replaced one says, but for the key and the dates."""
    try:
        holder = entitlement(dossier, purpose, not_after=None).holder
    except EntitlementError:
        return False
    extensions = {each.oid: each for each in replaced.extensions}
    named = extensions.get(x509.SubjectAlternativeName.oid)
    names = () if named is None else tuple(named.value)
    wanted = [each.to_extension() for each in holder.extensions]
    return (
        replaced.subject == holder.subject
        and names == holder.alternative_names
        and all(each.oid in extensions and _value(extensions[each.oid]) == each.value for each in wanted)
    )


def _value(extension: x509.Extension[x509.ExtensionType]) -> bytes | None:
    return extension.value.value if isinstance(extension.value, x509.UnrecognizedExtension) else None
