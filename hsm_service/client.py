"""Clients of the signing API: `HsmClient` blocks, `AsyncHsmClient` is for an event loop; methods of `SigningService`.

    with HsmClient.connect(settings.hsm.url, home.tls_files("ca")) as hsm:
        der = hsm.sign_certificate("merchant-ca", tbs, basis)

Refusals are raised as `runtime.problems.Problem`, with the service's status, type and clause; 503 `hsm-unreachable`
when it does not answer; `ApprovalNeeded` (202) when officers must approve it first. Both repeat what may be repeated
(`hsm_service.retry`), by default a few times within ten seconds; what they send is in `hsm_service.calls`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from hsm_service import calls
from hsm_service.async_client import AsyncHsmClient
from hsm_service.calls import Call, Conversation
from hsm_service.key_commands import LimitsCommand
from hsm_service.operation_info import OperationInfo
from hsm_service.request import compose_request
from hsm_service.retry import PATIENT, RetryPolicy
from hsm_service.service import Basis, Checked, KeyInfo, RawAlgorithm, SignCommand, Signed, SignKind
from hsm_service.wire import BatchAnswer, BatchItem
from runtime.client import TlsFiles, http_client
from runtime.problems import Problem

__all__ = ["AsyncHsmClient", "HsmClient", "KeyInfo"]

T = TypeVar("T")


class HsmClient:
    """Blocking client; safe for threads as httpx is."""

    def __init__(
        self,
        transport: httpx.Client,
        *,
        retry: RetryPolicy = PATIENT,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._transport = transport
        self._retry = retry
        self._sleep = sleep
        self._clock = clock
        self._draw = draw

    @classmethod
    def connect(cls, url: str, tls: TlsFiles, *, timeout: float = 30.0, retry: RetryPolicy = PATIENT) -> Self:
        """A client of the service at `url`, calling as the certificate of `tls`; `timeout` is of one attempt."""
        return cls(http_client(tls, url, timeout=timeout), retry=retry)

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def generate_key(self, name: str, template: str, *, owner: str | None = None, reason: str = "") -> KeyInfo:
        """See `SigningService`."""
        return self._ask(calls.generate(name, template, owner, reason))

    def describe_key(self, name: str) -> KeyInfo:
        """See `SigningService`."""
        return self._ask(calls.describe(name))

    def describe_version(self, name: str, version: int) -> KeyInfo:
        """One version of a key."""
        return self._ask(calls.describe(name, version))

    def list_versions(self, name: str) -> list[KeyInfo]:
        """Every version of a key, the oldest first."""
        return self._ask(calls.versions(name)).keys

    def list_keys(self) -> list[KeyInfo]:
        """See `SigningService`."""
        return self._ask(calls.keys()).keys

    def certificate_chain(self, name: str) -> tuple[bytes, ...]:
        """The certificates (DER) of the version in use, its own first, without the root."""
        return self._ask(calls.chain(name)).chain

    def certification_request(
        self, name: str, subject: bytes, san_uris: Sequence[str] = (), version: int | None = None
    ) -> bytes:
        """See `SigningService`."""
        info = compose_request(subject, san_uris, self._ask(calls.describe(name, version)))
        return self.sign(name, "request", info, version=version).signed

    def attach_certificate(self, name: str, chain: Sequence[bytes]) -> None:
        """See `SigningService`."""
        self._ask(calls.attach(name, chain))

    def attest_key(self, name: str) -> bytes:
        """See `SigningService`."""
        return self._ask(calls.attest(name)).signed

    def rotate(self, name: str, *, activate_at: datetime | None = None, reason: str = "") -> KeyInfo:
        """Make the next version of a key, in use from `activate_at` on, or once it has its certificate.

        This and what follows raises `ApprovalNeeded` with the request where officers must approve it first.
        """
        return self._ask(calls.rotate(name, activate_at, reason))

    def enable(self, name: str, version: int, *, reason: str = "") -> KeyInfo:
        """Put a version back into use."""
        return self._ask(calls.change(name, version, "enable", reason))

    def disable(self, name: str, version: int, *, reason: str = "") -> KeyInfo:
        """Take a version out of use at once."""
        return self._ask(calls.change(name, version, "disable", reason))

    def destroy(self, name: str, version: int, *, at: datetime | None = None, reason: str = "") -> KeyInfo:
        """Have a disabled version destroyed at `at` (aware), by default after thirty days."""
        return self._ask(calls.destroy(name, version, at, reason))

    def keep(self, name: str, version: int, *, reason: str = "") -> KeyInfo:
        """Take back a destruction that is scheduled."""
        return self._ask(calls.change(name, version, "keep", reason))

    def limit(self, name: str, limits: Mapping[str, Any], *, version: int | None = None, reason: str = "") -> KeyInfo:
        """Give a version limits of its own (`hsm_service.limits`) in place of those it had; None lifts a template's."""
        return self._ask(calls.limit(name, version, LimitsCommand(**limits, reason=reason)))

    def back_up(
        self, name: str, *, recipient: bytes, attestation: bytes, version: int | None = None, reason: str = ""
    ) -> bytes:
        """The key (DER SignedData) wrapped to `recipient` (DER SubjectPublicKeyInfo), which `attestation` is about."""
        return self._ask(calls.backup(name, version, recipient, attestation, reason)).backup

    def sign_certificate(self, name: str, tbs: bytes, basis: Basis | None = None) -> bytes:
        """See `SigningService`."""
        return self.sign(name, "certificate", tbs, basis=basis).signed

    def sign_certificates(
        self, name: str, items: Sequence[tuple[bytes, bytes]], crls: Sequence[bytes]
    ) -> list[bytes | Problem]:
        """See `SigningService`."""
        asked = [BatchItem(tbs, dossier=dossier) for tbs, dossier in items]
        answer = self._ask(calls.batch_sign(name, "certificate", asked, None, crls))
        return [each.outcome() for each in answer.items]

    def sign_crl(self, name: str, tbs: bytes, version: int | None = None) -> bytes:
        """See `SigningService`."""
        return self.sign(name, "crl", tbs, version=version).signed

    def sign_crl_parts(self, name: str, parts: Callable[[], Iterable[bytes]], version: int | None = None) -> bytes:
        """See `SigningService`."""
        return self._ask(calls.sign_crl(name, parts, version)).signature

    def sign_ocsp(self, name: str, response_data: bytes) -> bytes:
        """ResponseData in, BasicOCSPResponse out (DER, RFC 6960 4.2.1)."""
        return self.sign(name, "ocsp", response_data).signed

    def sign_timestamp(self, name: str, tst_info: bytes) -> bytes:
        """TSTInfo in, TimeStampToken out (DER, RFC 3161 2.4.2)."""
        return self.sign(name, "timestamp", tst_info).signed

    def sign_cms(self, name: str, content_type: str, content: bytes) -> bytes:
        """See `SigningService`."""
        return self.sign(name, "cms", content, content_type=content_type).signed

    def sign_checkpoint(self, name: str, progress: bytes) -> bytes:
        """The text of a log's checkpoint and why it extends the last in, the signed note out (`audit.checkpoint`)."""
        return self.sign(name, "checkpoint", progress).signed

    def sign_digest(self, name: str, algorithm: RawAlgorithm, digest: bytes, *, version: int | None = None) -> bytes:
        """A SHA-256 digest in, the bare signature out: for keys alone that a ceremony made for it."""
        return self.sign(name, "raw", digest, algorithm=algorithm, version=version).signed

    def sign(
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
        return self._ask(calls.sign(name, SignCommand(kind, content, content_type, basis, algorithm), version))

    def dry_run(self, name: str, command: SignCommand, *, version: int | None = None) -> Checked:
        """What `sign` would say: everything is judged, nothing signed. Raises as it would."""
        return self._ask(calls.check(name, command, version))

    def batch_sign(
        self, name: str, kind: SignKind, items: Sequence[BatchItem], *, version: int | None = None
    ) -> BatchAnswer:
        """Structures of one kind; each has its own answer or problem, in the same order, with the caller's `ref`."""
        return self._ask(calls.batch_sign(name, kind, items, version))

    def operations(self) -> list[OperationInfo]:
        """All requests for operations on keys, the newest first; for officers."""
        return self._ask(calls.operations()).operations

    def operation(self, request_id: str) -> OperationInfo:
        """One request."""
        return self._ask(calls.operation(request_id))

    def approve(self, request_id: str, approval: bytes) -> OperationInfo:
        """Hand in an officer's signed approval or rejection; the last one that was missing executes the operation."""
        return self._ask(calls.approve(request_id, approval))

    def execute(self, request_id: str) -> OperationInfo:
        """Do what is approved and could not be done then."""
        return self._ask(calls.execute(request_id))

    def _ask(self, call: Call[T]) -> T:
        conversation = Conversation(call, self._retry, self._clock())
        while True:
            content = call.body if call.parts is None else call.parts()
            try:
                response = self._transport.request(
                    call.method, call.path, content=content, headers=conversation.headers
                )
            except httpx.TransportError as error:
                pause: float | None = conversation.failed(error, self._clock(), self._draw())
            else:
                pause = conversation.answered(response, self._clock(), self._draw())
            if pause is None:
                return conversation.answer
            self._sleep(pause)
