"""The files of a bundle, as a pure function of what is on record about a case.

case.txt                 the case and the moment of the export; times and names that verify.sh needs, one record a line
revision.json            the canonical form of what was approved: its SHA-256 is the digest that decisions name
evidence.json            the same of the evidence on file; evidence/SHA256: each document, byte for byte
requests/PURPOSE.der     the PKCS#10 requests
decisions/N.p7s          the officers' signatures (CMS SignedData, DER), in the order in which they came
certificates/PURPOSE.pem certificates; acceptance.p7s: that they were accepted; orders/SERIAL.p7s: orders about them
chain/*.pem crls/*.pem   CA certificates; the newest status lists; root.pem: compare it with the pinned one
statement/pack.json      the rules that governed, in their canonical form; signed/, stamp.tsr: who published them
checks.json              what registers of others were asked, and what they answered in a word
transitions.json         every step of the case, with its number in the log
log/NAME-N.*             each entry of the log: its line, the path from it to the signed checkpoint, the checkpoint
digests.txt              SHA-256 of every file; verify.sh, README.md, README.fa.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from audit.checkpoint import Checkpoint
from audit.proof import Proof
from cps import canonical
from cps.acceptance import parse_acceptance
from cps.dossier import Dossier
from pki.cms_signed import parse_signed_data
from pki.der import sha256
from pki.oids import CT_ACCEPTANCE
from ra.statement import read_decision
from ra.story_wire import StoryView

_TEXTS: Final = ("verify.sh", "README.md", "README.fa.md")
EXECUTABLE: Final = "verify.sh"


@dataclass(frozen=True, slots=True)
class Records:
    """What is on record about a case.

    `bodies` are the documents by their SHA-256, `authorities` the CA certificates, `crls` the newest full lists,
    `pack` the document of the rules (`statement` other files of their publication, by name), `log_chains` the
    certificates of each log's key. `checks` is what registers answered, as JSON.
    """

    story: StoryView
    dossier: Dossier
    bodies: Mapping[bytes, bytes]
    root: x509.Certificate
    authorities: Sequence[x509.Certificate]
    crls: Sequence[x509.CertificateRevocationList]
    pack: Mapping[str, Any]
    statement: Mapping[str, bytes] = field(default_factory=dict)
    proofs: Sequence[Proof] = ()
    checks: Sequence[Mapping[str, Any]] = ()


def contents(records: Records, *, now: datetime) -> dict[str, bytes]:
    """The files by name; `now` (aware) is the moment of the export."""
    story, dossier = records.story, records.dossier
    revision = dossier.revision
    evidence = [each.model_dump(mode="json", exclude={"body"}, exclude_none=True) for each in dossier.evidence]
    made: dict[str, bytes] = {
        "revision.json": revision.canonical(),
        "evidence.json": b"[%b]" % b",".join(sorted(map(canonical.canonical_json, evidence))),
        "statement/pack.json": canonical.canonical_json(records.pack),
        "root.pem": _pem(records.root),
        "checks.json": _json(list(records.checks)),
        "transitions.json": _json([each.model_dump(mode="json") for each in story.transitions]),
    }
    said = [f"case {revision.application_id} {int(now.timestamp())}"]
    for purpose, der in dossier.csrs.items():
        made[f"requests/{purpose}.der"] = der
    for piece in dossier.evidence:
        name = f"evidence/{piece.sha256.hex()}"
        made[name] = records.bodies[piece.sha256]
        if piece.body is not None:  # a machine verifies it, so it is signed
            said.append(f"signed-evidence {piece.sha256.hex()} {int(piece.collected_at.timestamp())}")
    for number, cms in enumerate(dossier.decisions, 1):
        decision = read_decision(cms).decision
        over = (decision.revision_digest, decision.evidence_digest) == (revision.digest, dossier.evidence_digest)
        made[f"decisions/{number}.p7s"] = cms
        said.append(f"decision {number} {int(decision.date.timestamp())} {'over-this' if over else 'over-another'}")
    made |= _certificates(story, said)
    for each in records.authorities:
        made[f"chain/{sha256(_der(each)).hex()[:16]}.pem"] = _pem(each)
    for crl in records.crls:
        made[f"crls/{sha256(crl.issuer.public_bytes()).hex()[:16]}.pem"] = crl.public_bytes(Encoding.PEM)
    made |= {f"statement/{name}": content for name, content in records.statement.items()}
    for proof in records.proofs:
        made |= _proof(proof, said)
    made["case.txt"] = "".join(f"{line}\n" for line in said).encode()
    made |= {name: (files("ra.bundle") / name).read_bytes() for name in _TEXTS}
    listed = sorted((name, sha256(content).hex()) for name, content in made.items() if name != EXECUTABLE)
    made["digests.txt"] = "".join(f"{digest}  {name}\n" for name, digest in listed).encode()
    return made


def _certificates(story: StoryView, said: list[str]) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    for issued in story.certificates:
        certificate = x509.load_der_x509_certificate(issued.certificate)
        made[f"certificates/{issued.purpose}.pem"] = _pem(certificate)
        said.append(f"certificate {issued.purpose} {int(issued.not_before.timestamp())}")
        if issued.revocation is not None:
            made[f"orders/{issued.serial}.p7s"] = issued.revocation.statement
            said.append(f"order {issued.serial} {int(issued.revocation.at.timestamp())} {issued.purpose}")
    if story.acceptance is not None and story.acceptance.signed is not None:
        made["acceptance.p7s"] = story.acceptance.signed
        accepted = parse_acceptance(parse_signed_data(story.acceptance.signed, content_type=CT_ACCEPTANCE).content)
        said.append(f"accepted {int(accepted.date.timestamp())}")
    return made


def _proof(proof: Proof, said: list[str]) -> dict[str, bytes]:
    """The entry, the path from it to the root (32 bytes a hash), the checkpoint, the certificates of the log's key."""
    name = f"log/{proof.extra.key}-{proof.index}"
    size = Checkpoint.parse(proof.note.text).size
    said.append(f"entry {proof.extra.key} {proof.index} {size}")
    chain = [x509.load_der_x509_certificate(der) for der in proof.extra.chain]
    return {
        f"{name}.entry": proof.extra.entry.encode(),
        f"{name}.path": b"".join(proof.hashes),
        f"{name}.checkpoint": proof.note.encode(),
        f"log/{proof.extra.key}.pem": b"".join(map(_pem, chain)),
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
