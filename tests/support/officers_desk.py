"""An installation whose RA is up on loopback, with officers whose keys are in files: `kwbp ra` is tested before it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from click.testing import Result
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from typer.testing import CliRunner

from cli.main import build
from ra.app import create_app
from ra.records import NewCertificate
from runtime.server import start
from runtime.settings import Home
from tests.support.ca_world import tls_files
from tests.support.cps_cases import Office
from tests.support.pki_factory import Credential, PkiFactory, pem
from tests.support.ra_world import RaWorld

TLS: Final[dict[str, Any]] = {
    "extended_key_usage": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
}
PASSPHRASE: Final = b"correct horse battery"
OFFICERS: Final = {
    "vera": ("vetting_officer",),
    "viktor": ("vetting_officer",),
    "anna": ("approving_officer",),
    "sam": ("security_officer",),
    "audrey": ("auditor",),
}


@dataclass
class Desk:
    """The installation; `run` is a command of a person, `answer` the same of a program."""

    home: Home
    world: RaWorld
    secret: Path

    def run(self, *arguments: str, stdin: str = "", program: bool = False) -> Result:
        self.world.clock.now = datetime.now(UTC).replace(microsecond=0)
        options = ["--home", str(self.home.path), *(["--json"] if program else [])]
        return CliRunner().invoke(build([arguments[0]]), [*options, *arguments], input=stdin)

    def answer(self, *arguments: str) -> Any:
        done = self.run(*arguments, program=True)
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout)

    def shown(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.exit_code == 0, (done.output, done.exception)
        return str(done.stdout)

    def refused(self, *arguments: str) -> str:
        """What a person reads on standard error of a command that fails."""
        done = self.run(*arguments)
        assert done.exit_code == 1, (done.output, done.exception)
        return str(done.stderr)

    def acting(self, person: str) -> tuple[str, ...]:
        return ("--as", person, "--passphrase-file", str(self.secret))


def write_officer(folder: Path, person: str, credential: Credential) -> None:
    """An officer's certificate and encrypted key, as `kwbp officer` keeps them."""
    folder.mkdir(exist_ok=True)
    (folder / f"{person}.pem").write_bytes(pem(credential.certificate, *credential.chain))
    key = folder / f"{person}.key"
    key.touch(mode=0o600)
    protection = BestAvailableEncryption(PASSPHRASE)
    key.write_bytes(credential.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))


def _registered(credentials: Sequence[Credential]) -> list[NewCertificate]:
    return [
        NewCertificate(
            issuer="operations-ca",
            serial=f"{each.certificate.serial_number:x}",
            purpose="signing",
            der=each.certificate.public_bytes(Encoding.DER),
            chain=tuple(above.public_bytes(Encoding.DER) for above in each.chain),
        )
        for each in credentials
    ]


@contextmanager
def officers_desk(folder: Path) -> Iterator[Desk]:
    """Make the installation in `folder`, and start its RA."""
    home = Home(folder / "home")
    office = Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0)))
    home.trust_anchors.parent.mkdir(parents=True, exist_ok=True)
    home.trust_anchors.write_bytes(pem(office.pki.root.certificate))
    home.tls.mkdir(parents=True, exist_ok=True)
    office.pki.service("operator", replace=TLS).write(home.tls, "operator")
    credentials = {person: office.officer(person, *roles, replace=TLS) for person, roles in OFFICERS.items()}
    for person, credential in credentials.items():
        write_officer(home.path / "officers", person, credential)
    secret = folder / "passphrase"
    secret.touch(mode=0o600)
    secret.write_bytes(PASSPHRASE)
    world = RaWorld(folder / "ra", office)
    world.workflow.persons.founders(_registered(list(credentials.values())), now=world.now)
    server = tls_files(office.pki, "service", "ra", folder / "tls")
    with start(create_app(world.workflow), tls=server, client_certificate="optional") as url:
        home.config.write_text(f'[ra]\nhost = "localhost"\nport = {urlsplit(url).port}\n')
        yield Desk(home, world, secret)
    world.close()
