"""The witness as a process (`kwbp serve witness`): its folder, its HTTP interface.

    key             Ed25519, PKCS#8 in PEM, mode 0600; made once
    vkey            its public half, which the logs' services pin
    logs/*.vkey     the keys of the logs that it trusts, a line each; written when a hierarchy is founded
    witness.sqlite  the newest checkpoint of each log

    POST /add-checkpoint                     c2sp.org/tlog-witness
    GET  /<sha256 of origin>/checkpoint      the newest checkpoint, cosigned for whoever asks now

In production the folder belongs to another user than the services, better to another machine and other people: who can
write both a log and its witness can rewrite the past. Nothing here is authenticated but by signatures; the address is
plain http, and it needs no certificate of the authority that it watches.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from audit.errors import NoteError
from audit.note import VerifierKey
from audit.witness import Answer, Witness, WitnessStore
from runtime import health, problems

MAX_REQUEST: Final = 65_536  # bytes


class WitnessFolder:
    """The files of a witness."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.vkey = path / "vkey"
        self._key = path / "key"
        self._logs = path / "logs"

    def create(self) -> VerifierKey:
        """Make the folder and the key of a witness; what is there stays. The witness is called after its key."""
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._key.exists():
            made = ed25519.Ed25519PrivateKey.generate()
            pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            draft = self._key.with_name(".key.new")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._key)
        if not self.vkey.exists():
            public = self.key().public_key()
            name = f"kwbp/witness-{hashlib.sha256(public.public_bytes_raw()).hexdigest()[:8]}"
            self.vkey.write_text(f"{VerifierKey.witness(name, public).encode()}\n", encoding="utf-8")
        return read_vkey(self.vkey)

    def trust(self, file: str, log: VerifierKey) -> None:
        """Trust checkpoints by `log`; its vkey is written to `logs/<file>.vkey`."""
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._logs / f"{file}.vkey").write_text(f"{log.encode()}\n", encoding="utf-8")

    def key(self) -> ed25519.Ed25519PrivateKey:
        """The witness's key; raises NoteError if there is none."""
        try:
            found = load_pem_private_key(self._key.read_bytes(), None)
        except (OSError, ValueError, TypeError):
            raise NoteError("bad-key", f"there is no key of a witness in {self.path}") from None
        if not isinstance(found, ed25519.Ed25519PrivateKey):
            raise NoteError("bad-key", "the key of a witness is Ed25519")
        return found

    def logs(self) -> list[VerifierKey]:
        """The keys of the logs that it trusts."""
        return [read_vkey(path) for path in sorted(self._logs.glob("*.vkey"))]

    def open(self) -> tuple[Witness, WitnessStore]:
        """The witness, ready to answer, and its store, to be closed. Raises NoteError."""
        key, name = self.key(), read_vkey(self.vkey).name
        logs = self.logs()
        store = WitnessStore(self.path / "witness.sqlite")
        return Witness(name, key, logs, store, clock=lambda: int(time.time())), store


def read_vkey(path: Path) -> VerifierKey:
    """The one vkey in a file; raises NoteError."""
    try:
        return VerifierKey.parse(path.read_text(encoding="utf-8").removesuffix("\n"))
    except (OSError, UnicodeDecodeError):
        raise NoteError("bad-key", f"there is no vkey in {path}") from None


def create_app(witness: Witness, to_close: Iterable[WitnessStore] = ()) -> Starlette:
    """The HTTP interface of a witness; closes `to_close` when it stops."""

    async def add_checkpoint(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MAX_REQUEST:
                return _response(Answer(413, f"a request has at most {MAX_REQUEST} bytes\n".encode()))
        return _response(await asyncio.to_thread(witness.add_checkpoint, bytes(body)))

    async def latest(request: Request) -> Response:
        return _response(await asyncio.to_thread(witness.latest, request.path_params["log"]))

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        for store in to_close:
            store.close()

    app = Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/{log}/checkpoint", latest, methods=["GET"]),
        ],
        lifespan=lifespan,
    )
    problems.install(app)
    health.install(app, "witness")
    return app


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, headers={"content-type": answer.content_type})
