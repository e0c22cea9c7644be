"""A process with one token opened by a PKCS#11 module of the test's choice; told what to do by lines of JSON.

    python -m tests.faults.one_token MODULE CONFIGURATION LABEL PIN_FILE
    > {"call": "open"}                         < {"ok": null}
    > {"call": "sign_ecdsa", "data": "6162"}   < {"ok": "3045…"} or {"error": "TokenUnavailable", "status": 503}

A process of its own, because a process loads one module and lives no longer than it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hsm_service.errors import HsmError
from hsm_service.pkcs11_module import Pkcs11Module, load_module
from hsm_service.tokens import Token
from runtime.secrets import read_secret
from tests.support.ready_python import Python

KEY = "signer"


class OneToken:
    """The test's end."""

    def __init__(self, module: Path, configuration: Path, label: str, pin: Path) -> None:
        command = ["-m", "tests.faults.one_token", module, configuration, label, pin]
        self._process = Python(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, name: str, **arguments: str) -> dict[str, Any]:
        """Do one thing there; `ok`, or `error` and `status`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": name, **arguments}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def wait(self) -> int:
        """The end of the process: how it ended, negative for a signal."""
        with suppress(BrokenPipeError):
            self._process.communicate(timeout=60)
        return self._process.returncode


class _Process:
    def __init__(self, module: Pkcs11Module, label: str, pin: Path) -> None:
        self._module, self._label, self._pin = module, label, pin
        self._token: Token | None = None

    def open(self) -> None:
        self._token = Token.open(self._module, self._label, read_secret(self._pin), sessions=2, acquire_timeout=1.0)

    def close(self) -> None:
        if self._token is not None:
            self._token.close()
        self._token = None

    def find(self) -> str:
        assert self._token is not None
        ref = self._token.find(label=KEY)
        assert ref is not None
        return ref.cka_id.hex()

    def generate_ec(self) -> None:
        assert self._token is not None
        self._token.generate_ec(KEY)

    def random(self) -> str:
        assert self._token is not None
        return self._token.random(8).hex()

    def public_key(self) -> str:
        assert self._token is not None
        ref = self._token.find(label=KEY)
        assert ref is not None
        return str(self._token.public_key(ref).public_numbers())

    def sign_ecdsa(self, data: str) -> str:
        assert self._token is not None
        ref = self._token.find(label=KEY)
        assert ref is not None
        return self._token.sign_ecdsa(ref, bytes.fromhex(data)).hex()


def _serve(module: Path, configuration: Path, label: str, pin: Path) -> None:
    process = _Process(load_module(module, configuration), label, pin)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer: dict[str, Any] = {"ok": getattr(process, command.pop("call"))(**command)}
        except HsmError as error:
            answer = {"error": type(error).__name__, "status": error.status}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
