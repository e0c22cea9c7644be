"""`p11-kit server`: a token reached over a socket, whose other end can be killed. A real outage of an HSM."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from hsm_service.pkcs11_module import find_module
from tests.faults.faulty_module import wait_until


def client_module() -> Path:
    """The module that speaks to the server, wherever P11_KIT_SERVER_ADDRESS says it is."""
    return next(Path("/usr/lib").glob("*/pkcs11/p11-kit-client.so"))


class P11KitServer:
    """Serves the token `label` of a SoftHSM2 configuration on a Unix socket."""

    def __init__(self, folder: Path, configuration: Path, label: str) -> None:
        self.socket = folder / "p11-kit.sock"
        self._environment = {**os.environ, "SOFTHSM2_CONF": str(configuration)}
        self._command = ["p11-kit", "server", "--foreground", "--provider", str(find_module()), "--name"]
        self._command += [str(self.socket), f"pkcs11:token={label}"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The value of P11_KIT_SERVER_ADDRESS."""
        return f"unix:path={self.socket}"

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        wait_until(self.socket.is_socket)

    def kill(self) -> None:
        """kill -9, and the processes that serve its connections too."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
