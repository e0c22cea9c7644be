"""`kwbp ra evidence`: documents onto the file of a case, and from it to look at."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from cli import enrolment, output
from cli.output import plain, said
from cli.packs import statement
from cli.ra_desk import SHORT, ApplicationId, AsPerson, PassphraseFile, desk, resolve, state
from cli.state import existing
from cps.rules import Rule
from ra.client import ApplicationView, RaClient
from ra.evidence_files import check_size
from ra.wire import EvidenceView
from runtime.language import Message, Term

app = typer.Typer(help="Documents of a case: take one in, look at one.", no_args_is_help=True)

_PIECE: Final = 1 << 16  # bytes read and sent at once
_LARGE: Final = 1 << 20  # bytes from which on people see how far it is
_ENDINGS: Final = {b"%PDF": ".pdf", b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}


@dataclass(frozen=True, slots=True)
class _Document:
    kind: str
    path: Path
    size: int
    sha256: bytes

    @classmethod
    def read(cls, text: str) -> _Document:
        """A document named as KIND=FILE; ends the command if it is none."""
        kind, separator, file = text.partition("=")
        path = Path(file)
        if not separator or not path.is_file():
            output.fail(
                Message("{text} is not a document", text=repr(text)),
                hint=Message(
                    "expected {form}, for example {example}",
                    form="KIND=FILE",
                    example="acquirer_agreement=contract.pdf",
                ),
            )
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").digest()
        return cls(kind, path, path.stat().st_size, digest)

    def pieces(self) -> Iterator[bytes]:
        with self.path.open("rb") as opened:
            while piece := opened.read(_PIECE):
                yield piece


@app.command()
def add(
    application: ApplicationId,
    documents: Annotated[list[str], typer.Argument(help="KIND=FILE: kind as the CPS names it.", metavar="KIND=FILE…")],
    source: Annotated[str, typer.Option(help="Where the documents come from.")],
    person: AsPerson,
    passphrase_file: PassphraseFile = None,
    expires: Annotated[datetime | None, typer.Option(help="When they run out (UTC), if they say so.")] = None,
) -> None:
    """Take in documents as evidence; a vetting officer vouches for them. Decisions made before fall away."""
    found = existing()
    pieces = [_Document.read(document) for document in documents]
    pack = statement(found)
    for piece in pieces:
        check_size(piece.size, pack.evidence_files, pack.clause(Rule.EVID_FILE))
    _officer, who = enrolment.acting(found, person, passphrase_file)
    with desk(found, who) as client:
        identifier = resolve(client, application)
        for piece in pieces:
            view = _upload(client, identifier, piece, source, expires)
    for piece in pieces:
        line = Message(
            "on file: {kind}, SHA-256 {sha256}", kind=Term("evidence", piece.kind), sha256=piece.sha256.hex()
        )
        output.done(plain(said(line)))
    output.emit(
        view.model_dump(mode="json", by_alias=True),
        [plain(said(Message("application {application}: {state}", application=view.id[:SHORT], state=state(view))))],
    )


@app.command()
def get(
    application: ApplicationId,
    which: Annotated[
        str | None,
        typer.Argument(help="Kind, or the first digits of the SHA-256.", show_default="all of them", metavar="WHICH"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.", file_okay=False)] = Path(),
) -> None:
    """Write documents of a case to files, each compared with the digest that was signed."""
    found = existing()
    with desk(found) as client:
        view = client.show(resolve(client, application))
        chosen = [each for each in view.evidence if which is None or _is(each, which)]
        if not chosen:
            kinds = ", ".join(sorted({each.kind for each in view.evidence})) or "-"
            output.fail(Message("the case has no such document on file"), hint=Message("on file: {kinds}", kinds=kinds))
        written = [_fetch(client, view, each, out) for each in chosen]
    output.emit(
        [
            {"kind": each.kind, "sha256": each.sha256.hex(), "file": str(path)}
            for each, path in zip(chosen, written, strict=True)
        ],
        [
            f"{plain(said(Term('evidence', each.kind)))}: {plain(path)}"
            for each, path in zip(chosen, written, strict=True)
        ],
    )


def _upload(
    client: RaClient, application: str, piece: _Document, source: str, expires: datetime | None
) -> ApplicationView:
    large = piece.size > _LARGE
    bar = output.progress(piece.path.name, -(-piece.size // _PIECE)) if large else nullcontext(lambda: None)
    with bar as advance:

        def body() -> Iterator[bytes]:
            for each in piece.pieces():
                yield each
                advance()

        return client.upload_evidence(
            application,
            piece.kind,
            body(),
            sha256=piece.sha256,
            size=piece.size,
            source=source,
            expires_at=None if expires is None else expires.replace(tzinfo=expires.tzinfo or UTC),
        )


def _is(piece: EvidenceView, which: str) -> bool:
    return piece.kind == which or (len(which) >= 4 and piece.sha256.hex().startswith(which.lower()))


def _fetch(client: RaClient, view: ApplicationView, piece: EvidenceView, out: Path) -> Path:
    body = client.evidence(view.id, piece.sha256)
    if hashlib.sha256(body).digest() != piece.sha256:
        output.fail(Message("the document that came is not the one on file"))
    ending = next((each for start, each in _ENDINGS.items() if body.startswith(start)), ".bin")
    path = out / f"{piece.kind}-{piece.sha256.hex()[:SHORT]}{ending}"
    out.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path
