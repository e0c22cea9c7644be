"""The real `kwbp serve hsm` over a small installation of today: a merchant's P-256 key, zone keys, a signed log."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives.serialization import Encoding

from hsm_service.provision import provision_tokens
from hsm_service.vault import Vault
from runtime.client import TlsFiles, http_client
from runtime.secrets import Secret
from runtime.settings import Home
from tests.faults.faulty_module import wait_until
from tests.support.ca_world import tls_credential, write_hierarchy
from tests.support.pki_factory import PkiFactory, pem
from tests.support.ports import free_port
from tests.support.ready_python import Python
from tests.support.signing_site import World, der, merchant_chain, public_key

COMPONENTS: Final = tuple(
    bytes.fromhex(each) for each in ("c0ffee00112233445566778899aabbcc", "0ddba11ffeeddccbbaa9988776655443")
)
"""Of both zone keys."""
TOKENS: Final = ("ca", "gateway", "merchants", "standby")


def small_site(folder: Path) -> World:
    """Make the installation; work on a `copy` of it."""
    home = Home(folder / "home")
    provision_tokens(home)
    pki = PkiFactory(now=datetime.now(UTC).replace(microsecond=0))
    write_hierarchy(pki, home.pki)
    for authority in pki.authorities:
        crl = authority.crl(pki.now).public_bytes(Encoding.DER)
        (home.pki / "crls" / f"{authority.role}.crl").write_bytes(crl)
    with Vault.open(home) as vault:
        ceremony = vault.as_caller("ceremony")
        spki = ceremony.generate_key("shop-ec", "merchant-signing-ec", owner="M-1").public_key
        ceremony.attach_certificate("shop-ec", der(*merchant_chain(pki, "M-1", public_key(spki))))
        carrier: Any = _Carrier(public_key(ceremony.generate_key("log-hsm", "log-hsm").public_key))
        log = pki.service("log-hsm", key=carrier)
        ceremony.attach_certificate("log-hsm", der(log.certificate, *log.chain))
        for name in ("zone-pin", "zone-mac"):
            ceremony.import_zone_key(name, name, [Secret(each) for each in COMPONENTS])
    (home.pki / "keys").mkdir(exist_ok=True)
    (home.pki / "keys" / "log-hsm.pem").write_bytes(pem(log.certificate, *log.chain))
    tls_credential(pki, "service", "hsm").write(home.tls, "hsm")
    return World(home, pki)


@dataclass(frozen=True)
class _Carrier:
    public: Any

    def public_key(self) -> Any:
        return self.public


class Serve:
    """A running `kwbp serve hsm`."""

    def __init__(self, site: World, process: subprocess.Popen[bytes], port: int) -> None:
        self.site = site
        self.process = process
        self.url = f"https://127.0.0.1:{port}"
        folder = site.home.path.parent
        certificate, key = tls_credential(site.pki, "merchant", "M-1").write(folder, "merchant")
        self._merchant = TlsFiles(certificate, key, site.home.trust_anchors)

    def client(self) -> httpx.Client:
        """The merchant M-1, with one connection."""
        return http_client(self._merchant, self.url, timeout=60.0)

    def token_processes(self) -> dict[str, int]:
        """Process ids of the tokens, by label, as the log says."""
        found = {}
        for line in (self.site.home.log / "hsm.log").read_text().splitlines():
            if '"token serves"' in line:
                told = json.loads(line)
                found[told["token"]] = told["process"]
        return found

    def wait_ready(self) -> None:
        """Wait until it says so."""
        with self.client() as client:
            wait_until(lambda: _answer(client, "/health/ready") == 200)

    def terminate(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)


def _answer(client: httpx.Client, path: str) -> int | None:
    try:
        return client.get(path).status_code
    except httpx.TransportError:
        return None


@contextmanager
def serving(site: World, settings: str = "", environment: Mapping[str, str] | None = None) -> Iterator[Serve]:
    """Serve until the end of the block; `settings` are added to kwbp.toml, below `[hsm]` first."""
    port = free_port()
    site.home.config.write_text(f"[hsm]\nport = {port}\n{settings}\n")
    command = ["-m", "cli", "--home", site.home.path, "serve", "hsm"]
    process = Python(command, env={**os.environ, **(environment or {})}, start_new_session=True)
    service = Serve(site, process, port)
    try:
        wait_until(lambda: _listens(process, port))
        service.wait_ready()
        yield service
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for child in service.token_processes().values():
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGCONT)


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    assert process.poll() is None, "the service did not start"
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def is_gone(process: int) -> bool:
    """Whether a process has ended, and was waited for."""
    return not Path(f"/proc/{process}").exists()
