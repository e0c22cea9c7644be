"""Re-key: who holds a certificate asks for the next one, for a new key, and proves it with the old (RFC 3647 4.7).

The proof (`cps.rekey_statement`) is signed by the replaced key itself; or by the registration authority's own key,
which then says that somebody proved the replaced key to it in TLS (RFC 7030 3.3.2). That word nobody can look at later,
so it counts only for what EST renews: one signing key, alone in its case. A re-key says nothing new: name, alternative
names and our extensions are those of the certificates that are replaced, so fewer officers need to look. What is to
change needs a new application, with every step of its class; so does a chain of re-keys that grew too old, because
nobody has asked a register about the holder since it began.

An encryption key cannot sign; its certificate is named in the proof of the signing key of the same case.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from cps.dossier import Dossier
from cps.entitlement import KINDS, Kind, entitlement
from cps.errors import EntitlementError, StatementError
from cps.model import SYSTEM, Pack, Purpose
from cps.moments import after
from cps.rekey_statement import Rekey, identity_checked_at, parse_rekey
from cps.rules import Rule
from cps.signatory import identify, open_signed
from cps.verdict import Findings
from pki.errors import PkiError
from pki.extensions import IdentityChecked
from pki.oids import CT_REKEY
from pki.path import Trust, validate_path
from runtime.language import Message, Term

SIGNER: Final = "urn:kwbp:service:ra"
"""Who says so for a key that was proven in TLS."""
_SECOND: Final = timedelta(seconds=1)  # times of certificates are whole seconds
_CANNOT_SIGN: Final[frozenset[Purpose]] = frozenset({"encryption"})
_IN_TLS: Final[frozenset[Purpose]] = frozenset({"signing"})
"""What a case asks for whose old key was proven in TLS: a connection proves one key and carries one request."""


def purposes_to_prove(purposes: Collection[Purpose]) -> frozenset[Purpose]:
    """Of the purposes of a case those whose old key must be proven: all that can sign."""
    return frozenset(purposes) - _CANNOT_SIGN


def chain_ends(dossier: Dossier, pack: Pack) -> datetime | None:
    """The last second in which the certificates of a case are re-keyed without asking registers again (aware UTC).

    None if the case is no re-key, its class knows none, or it carries no certificate that it replaces.
    """
    rule = pack.classes[dossier.revision.member_class].rekey
    checked_at = identity_checked_at(dossier)
    if rule is None or checked_at is None:
        return None
    return after(checked_at, rule.max_chain_age)


def too_old(ends: datetime) -> Message:
    """That a chain of re-keys ended: what applicants are told as early as they can be."""
    return Message(
        "certificates of the member are re-keyed until {time} only, so long ago were registers asked: apply anew",
        time=ends,
    )


def chain_lasts_until(dossier: Dossier, pack: Pack, now: datetime) -> datetime | None:
    """The first second after `now` in which the chain of re-keys is too old; None if it never will be, or is."""
    ends = chain_ends(dossier, pack)
    return after(ends, _SECOND) if ends is not None and now <= ends else None


def check_rekey(dossier: Dossier, pack: Pack, now: datetime, found: Findings) -> None:
    """Add a finding if the revision says that it replaces certificates and the class, the requests or time do not fit.

    Time does not if nobody has asked a register about the holder for longer than the statement lets certificates be
    re-keyed in a chain: then the member applies anew.
    """
    revision = dossier.revision
    if revision.replaces is None:
        return
    ends = chain_ends(dossier, pack)
    if ends is not None and now > ends:
        found.object(Rule.REKEY_AGE, too_old(ends))
    if pack.classes[revision.member_class].rekey is None:
        found.add(
            Rule.REKEY_CLASS,
            "members of the class {member_class} apply anew for each certificate",
            member_class=Term("class", revision.member_class),
        )
    if set(revision.replaces) != {entry.purpose for entry in revision.csrs}:
        found.add(Rule.REKEY_PROOF, "the revision names the certificate that is replaced for each key")


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
    beside = _beside(rekey, dossier) if purpose == "signing" else ()
    if beside is None:
        return Rule.REKEY_PROOF, Message("it does not carry the certificate of the key that cannot sign")
    try:
        if signed.signer != rekey.replaced:
            signatory = identify(signed, pack=pack, trust=trust, now=now)
            if signatory.lapsed is not None or signatory.roles != {SYSTEM}:
                return Rule.REKEY_PROOF, Message("neither the replaced key nor the registration authority signed it")
            if {entry.purpose for entry in revision.csrs} != _IN_TLS:
                return Rule.REKEY_PROOF, Message("in TLS a signing key alone is proven; here each old key signs itself")
        for certificate, role in ((rekey.replaced, kind.role), *((each, its.role) for _purpose, each, its in beside)):
            validate_path(certificate, signed.certificates, trust=trust, now=now, roles={role})
    except PkiError as error:
        return Rule.REKEY_PROOF, Message(
            "the certificate that is replaced, or the one that says so, does not count: {reason}",
            reason=Term("reason", error.reason),
        )
    said = ((purpose, rekey.replaced), *((each, certificate) for each, certificate, _kind in beside))
    if not all(_says_the_same(certificate, dossier, pack, each) for each, certificate in said):
        return Rule.REKEY_SUBJECT, Message("the certificate that is replaced says something else than this case")
    return rekey


def _beside(rekey: Rekey, dossier: Dossier) -> tuple[tuple[Purpose, x509.Certificate, Kind], ...] | None:
    """Of each key that cannot sign its purpose, and the certificate that is replaced and of what kind it is.

    None if the statement does not carry one, or the class has no such key.
    """
    revision, found = dossier.revision, []
    for purpose in sorted(_CANNOT_SIGN.intersection(revision.replaces or {})):
        certificate = rekey.certificate((revision.replaces or {}).get(purpose))
        kind = KINDS.get((revision.member_class, purpose))
        if certificate is None or kind is None or purpose not in dossier.csrs:
            return None
        found.append((purpose, certificate, kind))
    return tuple(found)


def _says_the_same(replaced: x509.Certificate, dossier: Dossier, pack: Pack, purpose: Purpose) -> bool:
    """Whether the next certificate would say what the replaced one says, but for the key and the dates."""
    try:
        holder = entitlement(dossier, pack, purpose, not_after=None).holder
    except EntitlementError:
        return False
    extensions = {each.oid: each for each in replaced.extensions}
    named = extensions.get(x509.SubjectAlternativeName.oid)
    names = () if named is None else tuple(named.value)
    wanted = [each.to_extension() for each in holder.extensions if not isinstance(each, IdentityChecked)]
    return (
        replaced.subject == holder.subject
        and names == holder.alternative_names
        and all(each.oid in extensions and _value(extensions[each.oid]) == each.value for each in wanted)
    )


def _value(extension: x509.Extension[x509.ExtensionType]) -> bytes | None:
    return extension.value.value if isinstance(extension.value, x509.UnrecognizedExtension) else None
