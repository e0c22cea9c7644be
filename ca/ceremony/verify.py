"""Verify a published hierarchy against the transcript of its ceremony, offline."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from ca.ceremony.run import REQUIRED_ATTRIBUTES
from ca.ceremony.transcript import Entry, Transcript, read_transcript
from ca.errors import CaError, CeremonyError
from ca.hierarchy import TRANSCRIPT, Hierarchy, load_hierarchy
from ca.lints import require_clean
from ca.profile import profiles
from ca.publication import Publication
from pki.crl import CrlSet, verify_crl
from pki.errors import PkiError
from pki.path import validate_path


@dataclass(frozen=True, slots=True)
class Verified:
    """What was verified: the digest to compare with the one that was read aloud, and how much it covers."""

    tip: str
    keys: int
    certificates: int
    crls: int


def verify(folder: Path, *, now: datetime) -> Verified:
    """Verify the hierarchy in `folder`: the transcript's chain, each key's attributes, each certificate's bytes, rules
    and signature, and the CRLs, which since the ceremony may have been replaced by newer ones.

    Raises CeremonyError at the first thing that is not as recorded.
    """
    try:
        transcript = read_transcript((folder / TRANSCRIPT).read_bytes())
        hierarchy = load_hierarchy(folder)
    except OSError as error:
        raise CeremonyError(f"there is no transcript in {folder}: {error.strerror}") from None
    _check_files(folder, transcript)
    begin = _entries(transcript, "begin")[0].outcome
    publication = Publication(begin["repository"], begin["cps"])
    keys = [_check_key(entry) for entry in _entries(transcript, "key ")]
    certificates = [
        _check_certificate(folder, entry, hierarchy, publication) for entry in _entries(transcript, "certificate ")
    ]
    crls = [_check_crl(folder, entry, hierarchy, now) for entry in _entries(transcript, "crl ")]
    return Verified(transcript.tip, len(keys), len(certificates), len(crls))


def _entries(transcript: Transcript, prefix: str) -> list[Entry]:
    found = [entry for entry in transcript.entries if entry.step.startswith(prefix)]
    if not found:
        raise CeremonyError(f"the transcript has no {prefix.strip()} entry")
    return found


def _check_files(folder: Path, transcript: Transcript) -> None:
    recorded: dict[str, str] = _entries(transcript, "publish ")[0].outcome["files"]
    certified = {f"{entry.step.removeprefix('certificate ')}.pem" for entry in _entries(transcript, "certificate ")}
    if certified != {name for name in recorded if name.endswith(".pem")}:
        raise CeremonyError("the files that were published are not those of the certificates that were made")
    for name, digest in recorded.items():
        path = folder / name
        if not path.is_file():
            raise CeremonyError(f"{name} is missing")
        if name.endswith(".pem") and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise CeremonyError(f"{name} is not the file that was published")


def _check_key(entry: Entry) -> str:
    attributes = entry.outcome["attributes"]
    if any(attributes.get(name) is not value for name, value in REQUIRED_ATTRIBUTES.items()):
        raise CeremonyError(f"{entry.step}: the key was not protected by its token", clause="CPS 6.2.1")
    return str(entry.outcome["spki_sha256"])


def _check_certificate(folder: Path, entry: Entry, hierarchy: Hierarchy, publication: Publication) -> x509.Certificate:
    outcome = entry.outcome
    path = folder / f"{entry.step.removeprefix('certificate ')}.pem"
    certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
    profile = profiles().get(outcome["profile"])
    if profile is None or certificate.fingerprint(SHA256()).hex() != outcome["sha256"]:
        raise CeremonyError(f"{entry.step}: the file holds another certificate")
    issuer = None if profile.issuer == "self" else hierarchy[outcome["issuer"]].issuer
    issuer_key = issuer.public_key if issuer else hierarchy.root.issuer.public_key
    try:
        require_clean(
            certificate.tbs_certificate_bytes,
            profile,
            issuer=issuer,
            issuer_key=issuer_key,
            publication=publication,
            now=entry.at,
        )
        trust = hierarchy.trust(CrlSet())
        validate_path(certificate, trust=trust, now=entry.at, roles=[profile.role], check_revocation=False)
    except (CaError, PkiError) as error:
        raise CeremonyError(f"{entry.step}: {error}") from error
    return certificate


def _check_crl(folder: Path, entry: Entry, hierarchy: Hierarchy, now: datetime) -> x509.CertificateRevocationList:
    name, number = entry.outcome["issuer"], entry.outcome["number"]
    try:
        crl = x509.load_der_x509_crl((folder / "crls" / f"{name}.crl").read_bytes())
        verify_crl(crl, hierarchy[name].certificate, now)
        found = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (ValueError, PkiError, x509.ExtensionNotFound) as error:
        raise CeremonyError(f"the CRL of {name}: {error}") from error
    same = crl.fingerprint(SHA256()).hex() == entry.outcome["sha256"]
    if found < number or (found == number) != same:
        raise CeremonyError(f"the CRL of {name} is older than the ceremony, or another one under the same number")
    return crl
