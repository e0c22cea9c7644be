"""A server ends in order on each signal that asks for it, the end of its terminal (SIGHUP) too."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.support.ports import free_port
from tests.support.ready_python import Python

SERVER = """
import contextlib, signal, sys
from starlette.applications import Starlette
from runtime.server import serve

@contextlib.asynccontextmanager
async def lifespan(_app):
    print("up", flush=True)
    yield
    print("drained", flush=True)

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the tests themselves were started by
serve(Starlette(lifespan=lifespan), host="127.0.0.1", port=int(sys.argv[1]), tls=None, client_certificate="none")
print("closed")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_returns_to_whoever_closes_what_is_below(number: signal.Signals) -> None:
    with Python(["-c", SERVER, free_port()], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "up" in process.stdout.readline()
        process.send_signal(number)
        said, _nothing = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [line for line in said.splitlines() if not line.startswith("{")] == ["drained", "closed"]
