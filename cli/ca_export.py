"""`kwbp ca export`: all certificates, or those searched for, in one file or a folder, with lists and chain."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Final

import typer
from cryptography.hazmat.primitives.serialization import Encoding

from ca.client import CertificateAnswer
from cli import ca_crl, output
from cli.ca_search import (
    Digest,
    Expiring,
    Identity,
    Issuer,
    OfKey,
    ProfileName,
    Serial,
    StatusName,
    Subject,
    wanted,
)
from cli.ca_service import LOOK, service
from cli.state import Installation, existing

_COLUMNS: Final = (
    "issuer",
    "serial",
    "profile",
    "subject",
    "identity",
    "status",
    "not_before",
    "not_after",
    "sha256",
    "spki_sha256",
)


class Format(StrEnum):
    """How certificates are written."""

    FOLDER = "folder"
    PEM = "pem"
    DER = "der"
    CSV = "csv"
    JSONL = "jsonl"


Write = Callable[[CertificateAnswer], None]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=LOOK)(export)


def export(
    out: Annotated[Path, typer.Option(help="File or folder to write; it must not be there yet.")],
    kind: Annotated[
        Format,
        typer.Option(
            "--format",
            help="folder: a PEM file each, with lists and authorities; pem, der: one after the other in one file; csv; "
            "jsonl: a JSON object a line, with the certificate in base64.",
        ),
    ] = Format.FOLDER,
    serial: Serial = None,
    subject: Subject = None,
    identity: Identity = None,
    key: OfKey = None,
    sha256: Digest = None,
    issuer: Issuer = None,
    profile: ProfileName = None,
    status: StatusName = None,
    expiring: Expiring = None,
) -> None:
    """Write certificates out: all of them, or those that have the given properties, as in 'kwbp ca search'.

    They are written as they come, however many there are; a run that is broken off leaves nothing under the name.
    """
    found = existing()
    if out.exists():
        output.fail(f"{out} is there already", hint="give another name, or move it away")
    query = wanted(serial, subject, identity, key, sha256, issuer, profile, status, expiring)
    part = out.with_name(f"{out.name}.part")
    _remove(part)
    count = 0
    try:
        with service(found) as client:
            with (
                client.export(**query) as stream,
                _writer(kind, part) as write,
                output.progress("certificates", stream.total) as advance,
            ):
                for each in stream.certificates:
                    write(each)
                    count += 1
                    advance()
            if kind is Format.FOLDER:
                for each_list in client.crls():
                    ca_crl.download(client, each_list, part / "crls")
                _authorities(found, part)
        part.replace(out)
    except BaseException:
        _remove(part)
        raise
    output.emit({"out": str(out), "format": kind.value, "certificates": count}, [f"{count} certificates in {out}."])


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _authorities(found: Installation, folder: Path) -> None:
    """The chain: the root and every authority, PEM."""
    (folder / "cas").mkdir(parents=True)
    for path in (found.home.pki / "root.pem", *sorted((found.home.pki / "cas").glob("*.pem"))):
        shutil.copyfile(path, folder / "cas" / path.name)


@contextmanager
def _writer(kind: Format, path: Path) -> Iterator[Write]:
    if kind is Format.FOLDER:
        path.mkdir(parents=True)
        yield lambda each: _file(each, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind in {Format.PEM, Format.DER}:
        with path.open("wb") as binary:
            encoding = Encoding.PEM if kind is Format.PEM else Encoding.DER
            yield lambda each: _bytes(each, encoding, binary)
        return
    with path.open("w", encoding="utf-8", newline="") as text:
        if kind is Format.CSV:
            rows = csv.writer(text)
            rows.writerow(_COLUMNS)
            yield lambda each: _row(each, rows.writerow)
        else:
            yield lambda each: _line(each, text)


def _file(each: CertificateAnswer, folder: Path) -> None:
    path = folder / each.issuer / f"{each.serial}.pem"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(each.parsed().public_bytes(Encoding.PEM))


def _bytes(each: CertificateAnswer, encoding: Encoding, file: IO[bytes]) -> None:
    file.write(each.certificate if encoding is Encoding.DER else each.parsed().public_bytes(encoding))


def _row(each: CertificateAnswer, write: Callable[[list[object]], object]) -> None:
    values = each.model_dump(mode="json")
    # What a spreadsheet would take for a formula is text here (names come from applicants).
    write([f"'{text}" if (text := str(values[name] or ""))[:1] in "=+-@" and text else text for name in _COLUMNS])


def _line(each: CertificateAnswer, file: IO[str]) -> None:
    document = each.model_dump(mode="json", exclude={"chain", "purpose"})
    file.write(json.dumps(document, ensure_ascii=False) + "\n")
