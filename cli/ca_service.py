"""What the commands of `kwbp ca` have in common: reaching the CA, finding the certificate that is meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from cryptography.hazmat.primitives.hashes import SHA256

from ca.client import CaClient, CertificateAnswer
from cli import enrolment, output
from cli.state import Installation
from runtime.client import TlsFiles

CHANGE: Final = "Change"
LOOK: Final = "Look"
WITH_FINDINGS: Final = 3
"""Exit code: it was done, but not everything is as it should be."""

Named = Annotated[
    str,
    typer.Argument(help="Serial number (hexadecimal), identity (urn:kwbp:…) or PEM file.", metavar="CERTIFICATE"),
]
_SERIAL: Final = re.compile(r"[0-9A-Fa-f]{1,40}")
_SHOWN: Final = 5


@contextmanager
def service(found: Installation, tls: TlsFiles | None = None) -> Iterator[CaClient]:
    """The CA as the holder of `tls`, or as the operator."""
    with CaClient(found.settings.ca.url, tls or found.tls("operator"), language=output.language()) as client:
        yield client


def named(client: CaClient, text: str) -> CertificateAnswer:
    """The one certificate that `text` names; of several of an identity, the one that is in force. Ends the command."""
    in_file = enrolment.certificate_in(text)
    if in_file is not None:
        found = client.search(sha256=in_file.fingerprint(SHA256()).hex())
    elif _SERIAL.fullmatch(text):
        found = client.search(serial=text)
    else:
        found = client.search(identity=text)
        live = tuple(each for each in found if each.status == "good")
        found = live if len(live) == 1 else found
    if not found:
        output.fail(
            f"the CA has no certificate {text!r}", hint="look for it: 'kwbp ca search --subject PART', '--identity URN'"
        )
    if len(found) > 1:
        several = "; ".join(f"{each.serial} ({each.profile}, {each.status})" for each in found[:_SHOWN])
        output.fail(f"{len(found)} certificates are meant by {text!r}: {several}", hint="name one by its serial number")
    return found[0]


def utc(moment: datetime | None) -> datetime | None:
    """A date from the command line, which is in UTC."""
    return None if moment is None else moment.replace(tzinfo=UTC)


def moment(value: datetime | None) -> str:
    """A time for people."""
    return "-" if value is None else f"{value:%F %H:%M}"
