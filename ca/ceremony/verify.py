"""Verify a published hierarchy against the transcripts of all its ceremonies, offline.

Everything is read from the folder: nothing is asked, and no token is opened. The folder may be that of an installation,
a copy of it, or one that an archive was unpacked into (`ca.ceremony.archive`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from ca.ceremony.publish import REPLACED
from ca.ceremony.standing import Standing, read_standing, read_transcripts
from ca.ceremony.steps import RECOVERABLE_ATTRIBUTES, REQUIRED_ATTRIBUTES, crl_number
from ca.ceremony.transcript import Entry, Transcript
from ca.ceremony.undo import UNDO
from ca.crl import listed
from ca.errors import CaError, CeremonyError
from ca.hierarchy import ROOTS
from ca.lints import require_clean
from ca.prepare import ROOT, Issuer, certified_key
from ca.profile import profiles
from ca.publication import Publication
from pki.crl import verify_crl
from pki.errors import PkiError
from pki.extensions import HashedRootKey
from pki.keys import spki_sha256
from pki.path import validate_path
from pki.rollover import check_next_root

_FINGERPRINTED: Final = (".pem", ".cer")
"""Files that never change once published; lists are replaced by newer ones."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was verified: the digest to compare with the one that was read aloud last, and how much it covers.

    `ceremonies` are the tips of all transcripts by file, the founding's first.
    """

    tip: str
    keys: int
    certificates: int
    crls: int
    ceremonies: dict[str, str]


def verify(folder: Path, *, now: datetime) -> Verified:
    """Verify the hierarchy in `folder`: that the transcripts are chained, in themselves and to each other; each key's
    attributes; each certificate's bytes, rules and signature; that each root is the one which the root before it named;
    and the CRLs, which since their ceremony may have been replaced by newer ones.

    Raises CeremonyError at the first thing that is not as recorded.
    """
    transcripts = read_transcripts(folder)
    try:
        standing = read_standing(folder)
    except CaError as error:
        raise CeremonyError(str(error)) from None
    _check_files(folder, transcripts)
    act = _Verification(folder, standing, now)
    for _name, transcript in transcripts:
        act.take(transcript)
    act.check_lists()
    tips = {name: transcript.tip for name, transcript in transcripts}
    return Verified(transcripts[-1][1].tip, act.keys, act.certificates, act.lists, tips)


def _check_files(folder: Path, transcripts: list[tuple[str, Transcript]]) -> None:
    recorded: dict[str, str] = {}
    for name, transcript in transcripts:
        entry = transcript.entries[-1]
        if entry.step != "publish hierarchy":
            raise CeremonyError(f"{name} has no publish entry at its end")
        files: dict[str, str] = entry.outcome["files"]
        undone = any(each.step == UNDO for each in transcript.entries)
        made = {each.outcome["file"] for each in transcript.entries if each.step.startswith("certificate ")}
        kept = {each for each in files if each.endswith(_FINGERPRINTED) and not each.startswith(f"{REPLACED}/")}
        if kept != (set() if undone else made):
            raise CeremonyError("the files that were published are not those of the certificates that were made")
        recorded |= files
    for file, digest in recorded.items():
        path = folder / file
        if not path.is_file():
            raise CeremonyError(f"{file} is missing")
        if file.endswith(_FINGERPRINTED) and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise CeremonyError(f"{file} is not the file that was published")
    for path in sorted(folder.glob("*/*")):
        file = path.relative_to(folder).as_posix()
        if path.suffix in _FINGERPRINTED and file not in recorded:
            raise CeremonyError(f"no ceremony published {file}")


class _Verification:
    def __init__(self, folder: Path, standing: Standing, now: datetime) -> None:
        self._folder = folder
        self._standing = standing
        self._now = now
        self._lists: dict[str, dict[str, Any]] = {}
        self._roots: list[x509.Certificate] = []
        self._only_here = {ROOT, *(key.removeprefix(f"{ROOTS}/") for key in standing.certificates if ROOTS in key)}
        self.keys = 0
        self.certificates = 0
        self.lists = 0

    def take(self, transcript: Transcript) -> None:
        """Verify what one ceremony made."""
        begin = transcript.entries[0].outcome
        publication = Publication(begin["repository"], begin["cps"])
        undone = next((each for each in transcript.entries if each.step == UNDO), None)
        hashes = {}
        for entry in transcript.entries:
            action, _, subject = entry.step.partition(" ")
            if action in {"key", "find"}:
                self._check_key(entry)
                hashes[subject] = entry.outcome["spki_sha256"]
            elif action == "certificate" and undone is None:
                self._check_certificate(entry, publication, hashes)
            elif action == "crl" and (undone is None or entry.outcome["issuer"] in self._only_here):
                self.lists += 1
                self._lists[entry.outcome["issuer"]] = entry.outcome
        if undone is not None:
            self._check_undone(transcript, undone)

    def _check_key(self, entry: Entry) -> None:
        attributes = entry.outcome["attributes"]
        required = RECOVERABLE_ATTRIBUTES if entry.outcome["recoverable"] else REQUIRED_ATTRIBUTES
        if any(attributes.get(name) is not value for name, value in required.items()):
            raise CeremonyError(f"{entry.step}: the key was not protected by its token", clause="CPS 6.2.1")
        self.keys += 1

    def _check_certificate(self, entry: Entry, publication: Publication, hashes: dict[str, str]) -> None:
        outcome = entry.outcome
        certificate, profile = self._certificate(outcome), profiles().get(outcome["profile"])
        if profile is None:
            raise CeremonyError(f"{entry.step}: there is no profile {outcome['profile']}")
        subject = entry.step.removeprefix("certificate ")
        key = spki_sha256(certificate.public_key()).hex()
        if key != outcome["spki_sha256"] or hashes.get(subject, key) != key:
            raise CeremonyError(f"{entry.step}: another key was certified than the one that was made")
        is_root = profile.issuer == "self"
        issuer = None if is_root else Issuer(outcome["issuer"], self._authority(outcome["issuer"]))
        try:
            require_clean(
                certificate.tbs_certificate_bytes,
                profile,
                issuer=issuer,
                issuer_key=issuer.public_key if issuer else certified_key(certificate),
                publication=publication,
                now=entry.at,
            )
            if is_root:
                self._check_root(certificate, entry, hashes)
            else:
                trust = self._standing.trust()
                validate_path(certificate, trust=trust, now=entry.at, roles=[profile.role], check_revocation=False)
        except (CaError, PkiError) as error:
            raise CeremonyError(f"{entry.step}: {error}") from error
        self.certificates += 1

    def _check_root(self, certificate: x509.Certificate, entry: Entry, hashes: dict[str, str]) -> None:
        certificate.verify_directly_issued_by(certificate)
        named = HashedRootKey.from_certificate(certificate)
        if named is not None and named.digest.hex() not in hashes.values():
            raise CeremonyError("the next root's key is not one that was made", clause="RFC 8649")
        if self._roots:
            check_next_root(self._roots[-1], certificate, now=entry.at, known=self._roots)
        self._roots.append(certificate)

    def _certificate(self, outcome: dict[str, Any]) -> x509.Certificate:
        """The certificate that a step made, where it was published or where it went when another took its place."""
        file = str(outcome["file"])
        name = file.split("/")[-1].rsplit(".", 1)[0]
        for path in (self._folder / file, self._folder / REPLACED / f"{name}-{outcome['serial']}.pem"):
            if path.is_file():
                data = path.read_bytes()
                der = file.startswith(f"{ROOTS}/")
                found = x509.load_der_x509_certificate(data) if der else x509.load_pem_x509_certificates(data)[0]
                if found.fingerprint(SHA256()).hex() == outcome["sha256"]:
                    return found
        raise CeremonyError(f"{file}: the file holds another certificate")

    def _authority(self, name: str) -> x509.Certificate:
        found = self._standing.authority(name)
        if found is None:
            raise CeremonyError(f"there is no certificate of the authority {name}")
        return found

    def _check_undone(self, transcript: Transcript, undone: Entry) -> None:
        by_root = {
            each.outcome["serial"]
            for each in transcript.entries
            if each.step.startswith("certificate ") and each.outcome["issuer"] in self._only_here
        }
        lists = (crl for name, crl in self._standing.crls.items() if name in self._only_here)
        revoked = {entry.serial for crl in lists for entry in listed(crl)}
        if not by_root <= revoked or not by_root <= set(undone.outcome["revoked"].values()):
            raise CeremonyError("a ceremony was undone, and what the root had signed in it is not revoked")

    def check_lists(self) -> None:
        """Each list is the one of its last ceremony, or a newer one; the root's are all of ceremonies."""
        for name, outcome in self._lists.items():
            crl = self._standing.crls.get(name)
            try:
                if crl is None:
                    raise CeremonyError("it is missing")
                verify_crl(crl, self._authority(name), self._now)
                number = crl_number(crl)
            except (ValueError, PkiError, CaError, x509.ExtensionNotFound) as error:
                raise CeremonyError(f"the CRL of {name}: {error}") from error
            same = crl.fingerprint(SHA256()).hex() == outcome["sha256"]
            if (
                number < outcome["number"]
                or (number == outcome["number"]) != same
                or (name in self._only_here and not same)
            ):
                raise CeremonyError(
                    f"the CRL of {name} is older than the ceremony, or another one under the same number"
                )
