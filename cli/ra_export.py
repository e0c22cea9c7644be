"""`kwbp ra export`: a case as a bundle that anybody judges offline with OpenSSL."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from cryptography import x509

from audit.errors import NoteError
from audit.log_key import LogKey, key_name, load
from audit.proof import Proof
from audit.proving import prove
from ca.hierarchy import load_hierarchy
from cli import output
from cli.enrolment import now
from cli.output import plain, said
from cli.ra_case import checks_of
from cli.ra_desk import ApplicationId, desk, resolve
from cli.state import Installation, existing
from cps import strict_yaml
from cps.dossier import CpsPin
from cps.packs import published_file
from ra.bundle.contents import EXECUTABLE, Records, contents
from ra.client import RaClient
from ra.story_wire import StoryView
from runtime.language import Message
from statements.files import PublicationFiles

_NOT_SIGNED: Final = "not-signed"
_TURNS: Final = 20
_PAUSE: Final = 0.5  # seconds


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    application: ApplicationId,
    out: Annotated[Path, typer.Option("--out", help="New folder.", file_okay=False)],
) -> None:
    """Export a case as a bundle: signatures, evidence, certificates, rules, log entries, and what judges them.

    It verifies offline, with OpenSSL and a root certificate alone: 'sh verify.sh ROOT.pem' in the folder.
    """
    found = existing()
    if out.exists():
        output.fail(Message("{folder} is already there", folder=out))
    with desk(found) as client:
        made = contents(_records(found, client, resolve(client, application)), now=now())
    _write(out, made)
    line = Message(
        "{count} files in {folder}; judge them: {command}", count=len(made), folder=out, command=f"sh {out}/verify.sh"
    )
    output.emit({"folder": str(out), "files": sorted(made)}, [plain(said(line))])


def _records(found: Installation, client: RaClient, application: str) -> Records:
    story, dossier = client.explain_application(application), client.dossier(application).dossier
    hierarchy = load_hierarchy(found.home.pki)
    pack, published = _statement(found, dossier.revision.cps)
    return Records(
        story=story,
        dossier=dossier,
        bodies={each.sha256: client.evidence(application, each.sha256) for each in dossier.evidence},
        root=x509.load_pem_x509_certificate(found.home.trust_anchors.read_bytes()),
        authorities=hierarchy.intermediates,
        crls=[x509.load_der_x509_crl(each.read_bytes()) for each in sorted((found.home.pki / "crls").glob("*.crl"))],
        pack=pack,
        statement=published,
        proofs=list(_proofs(found, story)),
        checks=[each.model_dump(mode="json") for each in checks_of(client, application)],
    )


def _statement(found: Installation, pin: CpsPin) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The document of the rules and the files of their publication; the first version came with the software."""
    folder = found.home.cps / f"{pin.id}-{pin.version}"
    if folder.is_dir():
        files = PublicationFiles.read(folder)
        return strict_yaml.load(files.pack), files.all()
    return strict_yaml.load(published_file()), {}


def _proofs(found: Installation, story: StoryView) -> Iterator[Proof]:
    """Proofs of every step in the RA's log, and of what the CA logged about the certificates."""
    from audit.keeper import log_path  # brings a web server along

    numbers: dict[str, list[int | None]] = {
        "ra": [each.journal_index for each in story.transitions],
        "ca": [index for record in story.records.values() for index in record.log.values()],
    }
    for log, indices in numbers.items():
        known = sorted({index for index in indices if index is not None})
        if known:
            key: LogKey = load(key_name(log), found.home.pki, now=now())
            for index in known:
                yield _proven(log_path(found.home, log), index, key)


def _proven(log: Path, index: int, key: LogKey) -> Proof:
    """The proof of an entry; of a new one as soon as a checkpoint covers it, which is signed every second."""
    for _turn in range(_TURNS):
        try:
            return prove(log, index, key)
        except NoteError as error:
            if error.reason != _NOT_SIGNED:
                raise
            time.sleep(_PAUSE)
    return prove(log, index, key)


def _write(out: Path, made: dict[str, bytes]) -> None:
    """The folder, at once with everything in it."""
    temporary = out.with_name(out.name + ".new")
    if temporary.exists():
        shutil.rmtree(temporary)
    for name, content in made.items():
        path = temporary / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(content)
    (temporary / EXECUTABLE).chmod(0o755)
    temporary.rename(out)
