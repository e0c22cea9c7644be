"""Where the keys and certificates of this machine's officers are.

officers/<person>.key     the key, encrypted PKCS#8; or
officers/<person>.token   where in a token or smart card it is: a PKCS#11 URI (RFC 7512), never with a PIN
officers/<person>.csr     the request for its certificate
officers/<person>.pem     the certificate, with those above it

A key is certified once, so another certificate needs another key: it waits as `<person>.next.key` (`.token`, `.csr`)
until its certificate is collected and it takes the place of the old one, which is kept as `<person>.<serial>.key`.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Final

from cryptography import x509
from pydantic import BaseModel, ConfigDict, ValidationError

from cli import output
from cli.state import Installation
from hsm_service.officer_token_place import OfficerTokenPlace
from hsm_service.token_uri import TokenUriError
from runtime.client import TlsFiles
from runtime.secrets import Secret

NEXT: Final = "next"
_KEYS: Final = ("key", "token")


class _TokenFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    configuration: Path | None = None


def folder(found: Installation) -> Path:
    """The officers' folder of an installation."""
    return found.home.path / "officers"


def key_path(found: Installation, person: str) -> Path:
    """An officer's key file, encrypted PKCS#8."""
    return folder(found) / f"{person}.key"


def certificate_path(found: Installation, person: str) -> Path:
    """An officer's certificate with those above it, PEM."""
    return folder(found) / f"{person}.pem"


def request_path(found: Installation, person: str) -> Path:
    """The PKCS#10 request of an officer's key, PEM."""
    return folder(found) / f"{person}.csr"


def next_of(person: str) -> str:
    """The name of the files of a person's next key."""
    return f"{person}.{NEXT}"


def take_next(found: Installation, person: str, certificate: x509.Certificate) -> None:
    """Let the next key take the place of the one in use, if the certificate is the next key's; again changes nothing.

    The old key and certificate are kept under the old serial number.
    """
    following = request_path(found, next_of(person))
    if not following.exists():
        return
    if x509.load_pem_x509_csr(following.read_bytes()).public_key() != certificate.public_key():
        return
    waiting = [each for each in _KEYS if (folder(found) / f"{next_of(person)}.{each}").exists()]
    if waiting and (old := certificate_path(found, person)).exists():
        serial = f"{x509.load_pem_x509_certificate(old.read_bytes()).serial_number:x}"
        for each in (*_KEYS, "pem"):
            path = folder(found) / f"{person}.{each}"
            if path.exists():
                path.rename(folder(found) / f"{person}.{serial}.{each}")
    for each in (*waiting, "csr"):  # the request goes last: as long as it is there, this is not done
        (folder(found) / f"{next_of(person)}.{each}").rename(folder(found) / f"{person}.{each}")


def token_place(found: Installation, person: str) -> OfficerTokenPlace | None:
    """Where an officer's key is in a token; None if it is not in one. Ends the command if that cannot be read."""
    path = _token_path(found, person)
    if not path.exists():
        return None
    try:
        entry = _TokenFile.model_validate(tomllib.loads(path.read_text("utf-8")))
        return OfficerTokenPlace.parse(entry.uri, entry.configuration)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError):
        output.fail(f"{path} does not say where the key is", hint='expected: uri = "pkcs11:token=…;object=…"')
    except TokenUriError as error:
        output.fail(f"{path}: {error}")


def write_token_place(found: Installation, person: str, place: OfficerTokenPlace) -> Path:
    """Remember where an officer's key is in a token; returns the file."""
    path = _token_path(found, person)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = [f"uri = {json.dumps(str(place.uri))}\n"]  # TOML's basic strings are JSON's
    if place.configuration is not None:
        lines.append(f"configuration = {json.dumps(str(place.configuration))}\n")
    path.write_text("".join(lines), "utf-8")
    return path


def identity(found: Installation, person: str, passphrase: Secret) -> TlsFiles:
    """The officer as a TLS client: certificate chain and (encrypted) key."""
    return TlsFiles(
        certificate_path(found, person), key_path(found, person), found.home.trust_anchors, passphrase=passphrase
    )


def _token_path(found: Installation, person: str) -> Path:
    return folder(found) / f"{person}.token"
