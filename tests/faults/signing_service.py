"""The signing API of a small site, in a process that can be killed: real tokens, journal and mutual TLS.

    python -m tests.faults.signing_service HOME TLS_FOLDER PORT

Its clock stands at `pki_factory.NOW`, when the certificates of the site's keys are valid.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from hsm_service.app import create_app
from hsm_service.vault import Vault
from runtime.client import TlsFiles
from runtime.server import serve
from runtime.settings import Home, Settings
from tests.faults.faulty_module import wait_until
from tests.support.pki_factory import NOW
from tests.support.ports import free_port
from tests.support.ready_python import Python
from tests.support.signing_site import JUDGES


class SigningService:
    """The test's end."""

    def __init__(self, home: Home, tls: TlsFiles) -> None:
        port = free_port()
        self.url = f"https://localhost:{port}"
        self._port = port
        self._command = ["-m", "tests.faults.signing_service", home.path, tls.certificate.parent, port]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._process = Python(self._command)
        wait_until(self._listens)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        assert self._process.poll() is None, "the service ended by itself"
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end; whether it did so in order."""
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(60) in {0, -15}

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the service did not start"
        try:
            socket.create_connection(("127.0.0.1", self._port), 1).close()
        except OSError:
            return False
        return True


def main(home: Path, tls: Path, port: int) -> None:
    place = Home(home)
    settings = Settings.load(place, {})
    with Vault.open(place, content_types=JUDGES, clock=lambda: NOW, isolated=settings) as vault:
        files = TlsFiles(tls / "hsm.pem", tls / "hsm.key", tls / "root.pem")
        serve(create_app(vault), host="127.0.0.1", port=port, tls=files)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
