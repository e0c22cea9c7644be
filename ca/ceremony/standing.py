"""What stands published when a ceremony begins: certificates, CRLs, and the transcripts of the ceremonies before.

A plan is made from it and fixes it by its digest; the journal keeps it, so that an interrupted ceremony goes on from
what it was planned for, whatever half of its own result has been published meanwhile.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ceremony.transcript import Transcript, read_transcript
from ca.errors import CeremonyError
from ca.hierarchy import ROOTS, TRANSCRIPT, load_hierarchy
from ca.prepare import ROOT
from pki.crl import CrlSet
from pki.extensions import authority_key_id, subject_key_id
from pki.path import Trust
from pki.rollover import next_roots

TRANSCRIPTS: Final = "transcripts"
"""Folder of the transcripts of later ceremonies, `<number>-<id>.json`; the founding's is `transcript.json`."""


@dataclass(frozen=True)
class Standing:
    """Certificates by id (`root`, `cas/brand`, `keys/tsa`, `roots/root-2`), CRLs by issuer, and the transcripts.

    `keys` are all keys that ceremonies made or found: by SHA-256 of the public half (hex) their names.
    """

    certificates: Mapping[str, x509.Certificate] = field(default_factory=dict)
    crls: Mapping[str, x509.CertificateRevocationList] = field(default_factory=dict)
    tip: str | None = None
    number: int = 0
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def root(self) -> x509.Certificate | None:
        return self.certificates.get(ROOT)

    @property
    def newest_root(self) -> tuple[str, x509.Certificate] | None:
        """The last of the roots, with its id: the one that names the next."""
        return self.roots[-1] if self.roots else None

    @property
    def roots(self) -> list[tuple[str, x509.Certificate]]:
        """The root and those that follow it, in their order, each with its id."""
        if self.root is None:
            return []
        later = {each: key for key, each in self.certificates.items() if key.startswith(f"{ROOTS}/")}
        return [(ROOT, self.root), *((later[each], each) for each in next_roots(self.root, list(later)))]

    def is_root(self, authority: str | None) -> bool:
        """Whether an authority of this name is a root: its key is in the root's token, and used at ceremonies alone."""
        return authority == ROOT or f"{ROOTS}/{authority}" in self.certificates

    def authority(self, name: str) -> x509.Certificate | None:
        """The certificate of an authority by its name."""
        return next((self.certificates[key] for key in authority_ids(name) if key in self.certificates), None)

    def trust(
        self,
        more: Mapping[str, x509.Certificate] | None = None,
        crls: Mapping[str, x509.CertificateRevocationList] | None = None,
    ) -> Trust:
        """What the hierarchy lets a party believe, with further authorities and CRLs."""
        known = {**self.certificates, **(more or {})}
        anchors = tuple(each for _key, each in Standing(known).roots)
        between = tuple(each for key, each in known.items() if key.startswith("cas/"))
        return Trust(anchors, between, CrlSet({**self.crls, **(crls or {})}.values()))

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of everything here, by name: what a plan's digest covers."""
        found = {key: each.fingerprint(SHA256()).hex() for key, each in self.certificates.items()}
        return found | {f"crls/{key}": each.fingerprint(SHA256()).hex() for key, each in self.crls.items()}

    def document(self) -> dict[str, Any]:
        """As JSON, for the journal."""
        return {
            "certificates": {key: _text(each.public_bytes(Encoding.DER)) for key, each in self.certificates.items()},
            "crls": {key: _text(each.public_bytes(Encoding.DER)) for key, each in self.crls.items()},
            "tip": self.tip,
            "number": self.number,
            "keys": dict(self.keys),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Standing:
        """Back from the journal."""
        return cls(
            {key: x509.load_der_x509_certificate(b64decode(der)) for key, der in document["certificates"].items()},
            {key: x509.load_der_x509_crl(b64decode(der)) for key, der in document["crls"].items()},
            document["tip"],
            document["number"],
            document.get("keys", {}),
        )


NOTHING: Final = Standing()


def authority_ids(name: str) -> tuple[str, ...]:
    """The ids that the certificate of an authority of this name can have."""
    return (name, f"cas/{name}", f"{ROOTS}/{name}") if name == ROOT else (f"cas/{name}", f"{ROOTS}/{name}")


def above(certificate: x509.Certificate, known: Mapping[str, x509.Certificate]) -> list[str]:
    """The ids of the authorities above a certificate, nearest first, without the root."""
    by_key = {subject_key_id(each.extensions): key for key, each in known.items() if key.startswith("cas/")}
    found: list[str] = []
    while (issuer := by_key.get(authority_key_id(certificate.extensions))) is not None and issuer not in found:
        found.append(issuer)
        certificate = known[issuer]
    return found


def read_standing(folder: Path) -> Standing:
    """What is published in `folder`; raises CeremonyError or StoreError if it is not one hierarchy."""
    load_hierarchy(folder)
    transcripts = read_transcripts(folder)
    certificates: dict[str, x509.Certificate] = {}
    crls: dict[str, x509.CertificateRevocationList] = {}
    try:
        for path in [folder / "root.pem", *sorted(folder.glob("*/*.pem"))]:
            key = path.relative_to(folder).with_suffix("").as_posix()
            if key.split("/")[0] not in {"replaced"}:
                certificates[key] = x509.load_pem_x509_certificates(path.read_bytes())[0]
        for path in sorted((folder / ROOTS).glob("*.cer")):
            certificates[f"{ROOTS}/{path.stem}"] = x509.load_der_x509_certificate(path.read_bytes())
        for path in sorted((folder / "crls").glob("*.crl")):
            crls[path.stem] = x509.load_der_x509_crl(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CeremonyError(f"{folder} is not as it was published: {error}") from None
    return Standing(certificates, crls, transcripts[-1][1].tip, len(transcripts), _keys(transcripts))


def read_transcripts(folder: Path) -> list[tuple[str, Transcript]]:
    """The transcripts of all ceremonies in their order, by file name; each begins with the tip of the one before.

    Raises CeremonyError.
    """
    names = [TRANSCRIPT, *(f"{TRANSCRIPTS}/{path.name}" for path in sorted((folder / TRANSCRIPTS).glob("*.json")))]
    found: list[tuple[str, Transcript]] = []
    for number, name in enumerate(names):
        try:
            transcript = read_transcript((folder / name).read_bytes())
        except OSError as error:
            raise CeremonyError(f"there is no transcript {name} in {folder}: {error.strerror}") from None
        begin = transcript.entries[0] if transcript.entries else None
        if begin is None or begin.step != "begin":
            raise CeremonyError(f"{name} has no begin entry")
        before = found[-1][1].tip if found else None
        if begin.outcome.get("after") != before or (number and not name.startswith(f"{TRANSCRIPTS}/{number:04}-")):
            raise CeremonyError(f"{name} does not follow from the ceremony before it")
        found.append((name, transcript))
    return found


def _keys(transcripts: list[tuple[str, Transcript]]) -> dict[str, str]:
    made = (entry for _name, each in transcripts for entry in each.entries if entry.step.startswith(("key ", "find ")))
    return {str(entry.outcome.get("spki_sha256")): str(entry.outcome.get("key")) for entry in made}


def _text(data: bytes) -> str:
    return b64encode(data).decode()
