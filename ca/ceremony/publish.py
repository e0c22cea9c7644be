"""What a ceremony publishes, all at the end: nobody reads a half of it as the whole.

A founding puts its folder in place in one step. Later ceremonies replace files one by one, the transcript last, and
their journal says that they began to: whoever was killed in between goes on, with the same files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from ca.ceremony.plan import Order, Plan
from ca.ceremony.standing import TRANSCRIPTS, above, read_transcripts
from ca.ceremony.steps import Steps, der_of
from ca.ceremony.transcript import Transcript
from ca.errors import CeremonyError
from ca.files import publish_folder, replace_file
from ca.hierarchy import ROOTS, TRANSCRIPT
from ca.store import serial_hex

REPLACED: Final = "replaced"
"""Folder of certificates whose place another took, `<name>-<serial>.pem`: transcripts still speak of them."""


def transcript_name(plan: Plan) -> str:
    """The file of the ceremony's transcript."""
    if plan.founds:
        return TRANSCRIPT
    return f"{TRANSCRIPTS}/{plan.standing.number:04}-{plan.ceremony.ceremony.id}.json"


def published_files(steps: Steps) -> dict[str, bytes]:
    """Everything that a ceremony publishes but its transcript, by path below the folder of the hierarchy."""
    plan, known = steps.plan, steps.known
    files = {f"crls/{name}.crl": crl.public_bytes(Encoding.DER) for name, crl in steps.crls.items()}
    for order in plan.orders.values():
        if order.id not in steps.certificates:
            continue
        former = plan.standing.certificates.get(order.id)
        if former is not None:
            files[f"{REPLACED}/{order.name}-{serial_hex(former.serial_number)}.pem"] = former.public_bytes(Encoding.PEM)
        files[order.file] = _content(order, steps, above(known[order.id], known))
    return files


def _content(order: Order, steps: Steps, issuers: list[str]) -> bytes:
    if order.folder == ROOTS:
        return der_of(steps.certificates[order.id])
    chain = [order.id] if order.profile.ca is not None else [order.id, *issuers]
    return b"".join(steps.known[each].public_bytes(Encoding.PEM) for each in chain)


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 (hex) of each file."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}


def published_tip(folder: Path) -> str | None:
    """The tip of the last ceremony that was published in `folder`; None if there was none. Raises CeremonyError."""
    return read_transcripts(folder)[-1][1].tip if (folder / TRANSCRIPT).is_file() else None


def put_in_place(folder: Path, plan: Plan, files: Mapping[str, bytes], transcript: Transcript) -> None:
    """Publish; a second time does nothing. Raises CeremonyError if another ceremony was published since the plan."""
    name = transcript_name(plan)
    last = published_tip(folder)
    if last == transcript.tip:
        return
    if last != plan.standing.tip:
        raise CeremonyError("another ceremony was published since this one was planned", clause="CPS 6.1.1")
    if plan.founds:
        publish_folder(folder, {**files, name: transcript.to_json()})
        return
    for path, content in [*files.items(), (name, transcript.to_json())]:
        target = folder / path
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        replace_file(target, content)
