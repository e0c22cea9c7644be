"""Judging seals, offline and from public files alone: who sealed which entries, when, and what is missing.

Certificates are judged at the moment of signing: that of the time-stamp, if there is one. What was revoked later does
not unmake a seal that is stamped; one that is not stamped has only the signer's word for its moment, so a revocation
at any time unmakes it (CPS 4.9). What is false raises; what is only absent is told.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.ceremony.seal import SEALS, STATEMENT, Recorded, SealFolder, recorded, seal_folder
from ca.errors import CeremonyError, StatusError
from ca.hierarchy import Hierarchy, load_hierarchy
from ca.offline_status import Lists, read_lists, require_unrevoked
from cps.packs import published
from pki.ceremony_seal import PARTICIPANTS, CeremonySeal
from pki.cms_signed import SignedData, parse_signed_data, verify_signature
from pki.der import sha256
from pki.errors import PkiError
from pki.extensions import OfficerData, extensions_of
from pki.keys import spki_sha256
from pki.names import identity_uris
from pki.oids import CT_CEREMONY_SEAL
from pki.path import Trust, validate_path
from pki.roles import Role
from pki.timestamp import read_response, verify_token

ROLES: Final = frozenset({"security_officer", "auditor"})
"""Trusted roles whose holders seal (CPS 5.2.1)."""
_SKEW: Final = timedelta(minutes=5)
_FOLDER: Final = re.compile(r"(\d{4,})-(\d{4,})")
_CLAUSE: Final = "CPS 5.2.2"


@dataclass(frozen=True, slots=True)
class Sealer:
    """A person who sealed: trusted roles, SHA-256 of the certificate and of its key (hex), the own word for when."""

    person: str
    roles: tuple[str, ...]
    fingerprint: str
    spki_sha256: str
    signed_at: datetime


@dataclass(frozen=True, slots=True)
class Seal:
    """A seal that holds: what it covers, who made it, when by its time-stamp, and what it still misses."""

    ceremony: str
    file: str
    entries: int
    tip: str
    participants: tuple[Sealer, ...]
    countersigned_at: datetime | None
    stamped_at: datetime | None
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        return not self.missing


@dataclass(frozen=True, slots=True)
class Sealed:
    """All seals of a hierarchy in their order, the fingerprint of its root (hex), and what is not sealed, in words."""

    root: str
    seals: tuple[Seal, ...]
    missing: tuple[str, ...]


def verify_seals(folder: Path, *, root_sha256: str | None = None) -> Sealed:
    """Judge every seal in the folder of a hierarchy. `root_sha256` (hex) pins its root, if the auditor has it.

    Raises CeremonyError for everything that is not true: another root, a transcript that was changed or cut off after
    it was sealed, a seal of another ceremony, a signature that is not that of the person or key it is filed under, a
    person who signed twice, a certificate without path to this root, a time-stamp over something else.
    """
    hierarchy = load_hierarchy(folder)
    fingerprint = hierarchy.root.certificate.fingerprint(SHA256()).hex()
    if root_sha256 is not None and root_sha256.replace(":", "").lower() != fingerprint:
        raise CeremonyError(f"the root of this folder is another one: {fingerprint}")
    transcripts = recorded(folder)
    crls = _lists(folder, hierarchy)
    seals = []
    for path in sorted((folder / SEALS).glob("*")) if (folder / SEALS).is_dir() else []:
        named = _FOLDER.fullmatch(path.name)
        if named is None:
            raise CeremonyError(f"{SEALS}/{path.name} is not a seal")
        seals.append(_seal(SealFolder(path), int(named[1]), int(named[2]), transcripts, hierarchy, crls))
    missing = []
    for each in transcripts:
        covered = max((seal.entries for seal in seals if seal.file == each.file and seal.complete), default=0)
        if covered < len(each.transcript.entries):
            missing.append(f"{each.file}: entries {covered} to {len(each.transcript.entries) - 1} are not sealed")
    return Sealed(fingerprint, tuple(seals), tuple(missing))


def judge_participant(folder: Path, of: Recorded, signed: bytes, *, now: datetime) -> Sealer:
    """Whether this SignedData (DER), made now, may become part of the seal of a transcript; who signed.

    Raises CeremonyError. A signature that says another time is refused, because one that was kept is never replaced.
    """
    hierarchy = load_hierarchy(folder)
    crls, statement, where = _lists(folder, hierarchy), of.statement(), "this signature"
    sealer = _participant(where, signed, statement, hierarchy, crls, None)
    if abs(sealer.signed_at - now) > _SKEW:
        raise CeremonyError(
            f"{where}: it says that it was made at {sealer.signed_at:%Y-%m-%d %H:%M:%SZ}, which is not now"
        )
    _in_force(where, signed, hierarchy, now)
    before = [
        _participant(name, der, statement, hierarchy, crls, None, filed=name)
        for name, der in seal_folder(folder, of).participants.items()
        if name != sealer.person
    ]
    _apart(where, [*before, sealer])
    return sealer


def require_sealable(folder: Path, of: Recorded, *, now: datetime) -> None:
    """Before the audit key signs, and before its signature is stamped: whether the seal will be true as of now.

    Raises CeremonyError: a participant's certificate has expired or was revoked since.
    """
    hierarchy = load_hierarchy(folder)
    crls, seal = _lists(folder, hierarchy), seal_folder(folder, of)
    for name, der in seal.participants.items():
        where = f"{SEALS}/{seal.path.name}/{name}.p7s"
        _participant(where, der, of.statement(), hierarchy, crls, None, filed=name)
        _in_force(where, der, hierarchy, now)


def _in_force(where: str, der: bytes, hierarchy: Hierarchy, now: datetime) -> None:
    """What is stamped now is judged as of now for ever."""
    signed = parse_signed_data(der, content_type=CT_CEREMONY_SEAL)
    try:
        trust = _trust(hierarchy)
        validate_path(
            signed.signer, signed.certificates, trust=trust, now=now, roles=[Role.OFFICER], check_revocation=False
        )
    except PkiError as error:
        raise CeremonyError(f"{where}: {error}; remove it, and have another officer sign") from None


def _apart(where: str, people: Sequence[Sealer]) -> None:
    """Two persons are two keys: who holds both certificates is one."""
    if len({each.spki_sha256 for each in people}) != len(people):
        raise CeremonyError(f"{where}: two participants have the same key", clause=_CLAUSE)


def _lists(folder: Path, hierarchy: Hierarchy) -> Lists:
    try:
        return read_lists(folder, hierarchy)
    except StatusError as error:
        raise CeremonyError(str(error)) from None


def _seal(
    seal: SealFolder, number: int, entries: int, transcripts: Sequence[Recorded], hierarchy: Hierarchy, crls: Lists
) -> Seal:
    where = f"{SEALS}/{seal.path.name}"
    if number >= len(transcripts):
        raise CeremonyError(f"{where}: the transcript that was sealed is gone")
    of = transcripts[number]
    if not 1 <= entries <= len(of.transcript.entries):
        raise CeremonyError(f"{where}: entries of {of.file} were cut off after it was sealed")
    statement = of.statement(entries)
    at = of.transcript.entries[entries - 1].at
    if (path := seal.path / STATEMENT).exists() and path.read_bytes() != statement.to_der():
        raise CeremonyError(f"{where}: what was sealed is not {of.file} as it is here")
    stamped_at = _stamped(seal, where, hierarchy, crls, at)
    signed = seal.participants
    people = [
        _participant(f"{where}/{name}.p7s", der, statement, hierarchy, crls, stamped_at, filed=name)
        for name, der in signed.items()
    ]
    for person in people:
        _not_before(f"{where}/{person.person}.p7s", person.signed_at, at)
    _apart(where, people)
    countersigned_at = None
    missing = []
    if len(people) < PARTICIPANTS:
        missing.append(f"{len(people)} of {PARTICIPANTS} participants have signed")
    if seal.audit.exists():
        content = statement.countersigning({name: sha256(der) for name, der in signed.items()})
        countersigned_at = _audit(f"{where}/{seal.audit.name}", seal.audit, content, hierarchy, crls, stamped_at)
    else:
        missing.append("the audit key has not countersigned")
    if stamped_at is None:
        missing.append("there is no time-stamp")
    return Seal(
        of.ceremony, of.file, entries, statement.tip.hex(), tuple(people), countersigned_at, stamped_at, tuple(missing)
    )


def _stamped(seal: SealFolder, where: str, hierarchy: Hierarchy, crls: Lists, at: datetime) -> datetime | None:
    if not seal.stamp.exists():
        return None
    if not seal.audit.exists():
        raise CeremonyError(f"{where}: the signature that was stamped is gone")
    trust = _trust(hierarchy)
    try:
        token = read_response(seal.stamp.read_bytes())
        moment = _unrevoked_token(token, seal.audit.read_bytes(), trust, hierarchy, crls)
    except PkiError as error:
        raise CeremonyError(f"{where}/{seal.stamp.name}: {error}") from None
    _not_before(f"{where}/{seal.stamp.name}", moment, at)
    return moment


def _unrevoked_token(token: bytes, data: bytes, trust: Trust, hierarchy: Hierarchy, crls: Lists) -> datetime:
    stamp = verify_token(token, data, trust=trust, check_revocation=False)
    _require_unrevoked("the time-stamp authority", stamp.path, hierarchy, crls, stamp.gen_time)
    return stamp.gen_time


def _participant(
    where: str,
    der: bytes,
    statement: CeremonySeal,
    hierarchy: Hierarchy,
    crls: Lists,
    stamped_at: datetime | None,
    *,
    filed: str | None = None,
) -> Sealer:
    signed = _signed(where, der, statement, hierarchy, crls, Role.OFFICER, stamped_at)
    data = OfficerData.from_certificate(signed.signer)
    if data is None or (filed is not None and data.person_id != filed):
        raise CeremonyError(f"{where}: it is not signed by the person it is filed under", clause=_CLAUSE)
    if ROLES.isdisjoint(data.roles):
        raise CeremonyError(f"{where}: {data.person_id} is none of {', '.join(sorted(ROLES))}", clause=_CLAUSE)
    return Sealer(
        data.person_id,
        data.roles,
        signed.signer.fingerprint(SHA256()).hex(),
        spki_sha256(signed.signer.public_key()).hex(),
        signed.signing_time,
    )


def _audit(
    where: str, path: Path, content: CeremonySeal, hierarchy: Hierarchy, crls: Lists, stamped_at: datetime | None
) -> datetime:
    signed = _signed(where, path.read_bytes(), content, hierarchy, crls, Role.SERVICE, stamped_at)
    if published().signers.key_attestation not in identity_uris(signed.signer):
        raise CeremonyError(f"{where}: it is not signed by the audit key", clause=_CLAUSE)
    for extension in extensions_of(signed.signer):
        # The same service's TLS certificate bears its name, too; its key is in a file.
        if isinstance(extension.value, x509.ExtendedKeyUsage) and ExtendedKeyUsageOID.SERVER_AUTH in extension.value:
            raise CeremonyError(f"{where}: it is signed by the key of a TLS server", clause=_CLAUSE)
    return signed.signing_time


def _signed(
    where: str,
    der: bytes,
    content: CeremonySeal,
    hierarchy: Hierarchy,
    crls: Lists,
    role: Role,
    stamped_at: datetime | None,
) -> SignedData:
    try:
        signed = parse_signed_data(der, content_type=CT_CEREMONY_SEAL)
        verify_signature(signed)
        if signed.content != content.to_der():
            raise CeremonyError(f"{where}: what was signed is not the transcript that is here, or not these signatures")
        path = validate_path(
            signed.signer,
            signed.certificates,
            trust=_trust(hierarchy),
            now=stamped_at or signed.signing_time,
            roles=[role],
            check_revocation=False,
        )
    except PkiError as error:
        raise CeremonyError(f"{where}: {error}") from None
    if stamped_at is not None and signed.signing_time > stamped_at + _SKEW:
        raise CeremonyError(f"{where}: it says that it was signed after it was stamped")
    _require_unrevoked(where, path.certificates, hierarchy, crls, stamped_at)
    return signed


def _trust(hierarchy: Hierarchy) -> Trust:
    return Trust(hierarchy.anchors, hierarchy.intermediates)


def _require_unrevoked(
    where: str, path: Sequence[x509.Certificate], hierarchy: Hierarchy, crls: Lists, proven: datetime | None
) -> None:
    try:
        require_unrevoked(path, hierarchy, crls, proven)
    except StatusError as error:
        raise CeremonyError(f"{where}: {error}", clause=error.clause) from None


def _not_before(where: str, moment: datetime, entry: datetime) -> None:
    if moment < entry - _SKEW:
        raise CeremonyError(f"{where}: it claims a time before the entry that it covers")
