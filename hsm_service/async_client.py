"""`AsyncHsmClient`: `hsm_service.client.HsmClient` for an event loop. Its methods mean the same."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx

from hsm_service import calls
from hsm_service.calls import Call, Conversation
from hsm_service.key_commands import LimitsCommand
from hsm_service.operation_info import OperationInfo
from hsm_service.request import compose_request
from hsm_service.retry import PATIENT, RetryPolicy
from hsm_service.service import Basis, Checked, KeyInfo, RawAlgorithm, SignCommand, Signed, SignKind
from hsm_service.wire import BatchAnswer, BatchItem
from runtime.client import AsyncTransport, TlsFiles, keepalive_client
from runtime.keepalive import CONNECTIONS
from runtime.problems import Problem

T = TypeVar("T")

_LARGEST_ANSWER: Final = 4 * 1024 * 1024  # bytes


class AsyncHsmClient:
    """Client for an event loop, with a bounded pool of kept-alive connections. Belongs to one event loop."""

    def __init__(
        self,
        transport: AsyncTransport,
        *,
        retry: RetryPolicy = PATIENT,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._transport = transport
        self._retry = retry
        self._sleep = sleep
        self._clock = clock
        self._draw = draw

    @classmethod
    def connect(
        cls,
        url: str,
        tls: TlsFiles,
        *,
        timeout: float = 30.0,
        connections: int = CONNECTIONS,
        retry: RetryPolicy = PATIENT,
    ) -> Self:
        """A client of the service at `url`, calling as the certificate of `tls`; `timeout` is of one attempt."""
        transport = keepalive_client(tls, url, timeout=timeout, connections=connections, largest_answer=_LARGEST_ANSWER)
        return cls(transport, retry=retry)

    async def close(self) -> None:
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def generate_key(self, name: str, template: str, *, owner: str | None = None, reason: str = "") -> KeyInfo:
        """See `SigningService`."""
        return await self._ask(calls.generate(name, template, owner, reason))

    async def describe_key(self, name: str) -> KeyInfo:
        """See `SigningService`."""
        return await self._ask(calls.describe(name))

    async def describe_version(self, name: str, version: int) -> KeyInfo:
        """One version of a key."""
        return await self._ask(calls.describe(name, version))

    async def list_versions(self, name: str) -> list[KeyInfo]:
        """Every version of a key, the oldest first."""
        return (await self._ask(calls.versions(name))).keys

    async def list_keys(self) -> list[KeyInfo]:
        """See `SigningService`."""
        return (await self._ask(calls.keys())).keys

    async def certificate_chain(self, name: str) -> tuple[bytes, ...]:
        """The certificates (DER) of the version in use, its own first, without the root."""
        return (await self._ask(calls.chain(name))).chain

    async def certification_request(
        self, name: str, subject: bytes, san_uris: Sequence[str] = (), version: int | None = None
    ) -> bytes:
        """See `SigningService`."""
        info = compose_request(subject, san_uris, await self._ask(calls.describe(name, version)))
        return (await self.sign(name, "request", info, version=version)).signed

    async def attach_certificate(self, name: str, chain: Sequence[bytes]) -> None:
        """See `SigningService`."""
        await self._ask(calls.attach(name, chain))

    async def attest_key(self, name: str) -> bytes:
        """See `SigningService`."""
        return (await self._ask(calls.attest(name))).signed

    async def rotate(self, name: str, *, activate_at: datetime | None = None, reason: str = "") -> KeyInfo:
        """As `HsmClient`'s."""
        return await self._ask(calls.rotate(name, activate_at, reason))

    async def enable(self, name: str, version: int, *, reason: str = "") -> KeyInfo:
        """As `HsmClient`'s."""
        return await self._ask(calls.change(name, version, "enable", reason))

    async def disable(self, name: str, version: int, *, reason: str = "") -> KeyInfo:
        """As `HsmClient`'s."""
        return await self._ask(calls.change(name, version, "disable", reason))

    async def destroy(self, name: str, version: int, *, at: datetime | None = None, reason: str = "") -> KeyInfo:
        """As `HsmClient`'s."""
        return await self._ask(calls.destroy(name, version, at, reason))

    async def keep(self, name: str, version: int, *, reason: str = "") -> KeyInfo:
        """As `HsmClient`'s."""
        return await self._ask(calls.change(name, version, "keep", reason))

    async def limit(
        self, name: str, limits: Mapping[str, Any], *, version: int | None = None, reason: str = ""
    ) -> KeyInfo:
        """As `HsmClient`'s."""
        return await self._ask(calls.limit(name, version, LimitsCommand(**limits, reason=reason)))

    async def back_up(
        self, name: str, *, recipient: bytes, attestation: bytes, version: int | None = None, reason: str = ""
    ) -> bytes:
        """As `HsmClient`'s."""
        return (await self._ask(calls.backup(name, version, recipient, attestation, reason))).backup

    async def sign_certificate(self, name: str, tbs: bytes, basis: Basis | None = None) -> bytes:
        """See `SigningService`."""
        return (await self.sign(name, "certificate", tbs, basis=basis)).signed

    async def sign_certificates(
        self, name: str, items: Sequence[tuple[bytes, bytes]], crls: Sequence[bytes]
    ) -> list[bytes | Problem]:
        """See `SigningService`."""
        asked = [BatchItem(tbs, dossier=dossier) for tbs, dossier in items]
        answer = await self._ask(calls.batch_sign(name, "certificate", asked, None, crls))
        return [each.outcome() for each in answer.items]

    async def sign_crl(self, name: str, tbs: bytes, version: int | None = None) -> bytes:
        """See `SigningService`."""
        return (await self.sign(name, "crl", tbs, version=version)).signed

    async def sign_crl_parts(
        self, name: str, parts: Callable[[], Iterable[bytes]], version: int | None = None
    ) -> bytes:
        """See `SigningService`. Here the list is sent whole: it is in memory once."""
        return (await self._ask(calls.sign_crl(name, parts, version))).signature

    async def sign_ocsp(self, name: str, response_data: bytes) -> bytes:
        """ResponseData in, BasicOCSPResponse out (DER, RFC 6960 4.2.1)."""
        return (await self.sign(name, "ocsp", response_data)).signed

    async def sign_timestamp(self, name: str, tst_info: bytes) -> bytes:
        """TSTInfo in, TimeStampToken out (DER, RFC 3161 2.4.2)."""
        return (await self.sign(name, "timestamp", tst_info)).signed

    async def sign_cms(self, name: str, content_type: str, content: bytes) -> bytes:
        """See `SigningService`."""
        return (await self.sign(name, "cms", content, content_type=content_type)).signed

    async def sign_checkpoint(self, name: str, progress: bytes) -> bytes:
        """The text of a log's checkpoint and why it extends the last in, the signed note out (`audit.checkpoint`)."""
        return (await self.sign(name, "checkpoint", progress)).signed

    async def sign_digest(
        self, name: str, algorithm: RawAlgorithm, digest: bytes, *, version: int | None = None
    ) -> bytes:
        """A SHA-256 digest in, the bare signature out: for keys alone that a ceremony made for it."""
        return (await self.sign(name, "raw", digest, algorithm=algorithm, version=version)).signed

    async def sign(
        self,
        name: str,
        kind: SignKind,
        content: bytes,
        *,
        content_type: str | None = None,
        basis: Basis | None = None,
        algorithm: RawAlgorithm | None = None,
        version: int | None = None,
    ) -> Signed:
        """The whole answer: the signed object, and which key signed it how, with the number of its audit record."""
        return await self._ask(calls.sign(name, SignCommand(kind, content, content_type, basis, algorithm), version))

    async def dry_run(self, name: str, command: SignCommand, *, version: int | None = None) -> Checked:
        """What `sign` would say: everything is judged, nothing signed. Raises as it would."""
        return await self._ask(calls.check(name, command, version))

    async def batch_sign(
        self, name: str, kind: SignKind, items: Sequence[BatchItem], *, version: int | None = None
    ) -> BatchAnswer:
        """Structures of one kind; each has its own answer or problem, in the same order, with the caller's `ref`."""
        return await self._ask(calls.batch_sign(name, kind, items, version))

    async def operations(self) -> list[OperationInfo]:
        """All requests for operations on keys, the newest first; for officers."""
        return (await self._ask(calls.operations())).operations

    async def operation(self, request_id: str) -> OperationInfo:
        """One request."""
        return await self._ask(calls.operation(request_id))

    async def approve(self, request_id: str, approval: bytes) -> OperationInfo:
        """Hand in an officer's signed approval or rejection; the last one that was missing executes the operation."""
        return await self._ask(calls.approve(request_id, approval))

    async def execute(self, request_id: str) -> OperationInfo:
        """Do what is approved and could not be done then."""
        return await self._ask(calls.execute(request_id))

    async def _ask(self, call: Call[T]) -> T:
        conversation = Conversation(call, self._retry, self._clock())
        while True:
            content = call.body if call.parts is None else b"".join(call.parts())
            try:
                response = await self._transport.request(
                    call.method, call.path, content=content, headers=conversation.headers
                )
            except httpx.TransportError as error:
                pause: float | None = conversation.failed(error, self._clock(), self._draw())
            else:
                pause = conversation.answered(response, self._clock(), self._draw())
            if pause is None:
                return conversation.answer
            await self._sleep(pause)
