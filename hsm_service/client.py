"""Clients of the signing API: `HsmClient` blocks, `AsyncHsmClient` is for an event loop; methods of `SigningService`.

    with HsmClient.connect(settings.hsm.url, home.tls_files("ca")) as hsm:
        der = hsm.sign_certificate("merchant-ca", tbs)

Refusals are raised as `runtime.problems.Problem`, with the service's status, type and clause; 503 `hsm-unreachable`
when it does not answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from hsm_service.operation_info import ApprovalNeeded, ApproveCommand, OperationInfo, OperationList
from hsm_service.request import compose_request
from hsm_service.service import Basis, KeyInfo, RawAlgorithm, SignCommand, Signed, SignKind
from hsm_service.wire import AttachCommand, GenerateCommand, KeyList
from runtime.client import TlsFiles, client_context, http_client, raise_problem
from runtime.keepalive import CONNECTIONS, KeepAliveClient
from runtime.problems import Problem

__all__ = ["AsyncHsmClient", "HsmClient", "KeyInfo"]

T = TypeVar("T")

_KEYS: Final = "/v1/keys"
_OPERATIONS: Final = "/v1/operations"
_ACCEPTED: Final = 202
_HEADERS: Final = {"content-type": "application/json"}
_LARGEST_ANSWER: Final = 4 * 1024 * 1024  # bytes
_encoder: Final = msgspec.json.Encoder()
_key_info: Final = msgspec.json.Decoder(KeyInfo)
_key_list: Final = msgspec.json.Decoder(KeyList)
_signed: Final = msgspec.json.Decoder(Signed)
_operation: Final = msgspec.json.Decoder(OperationInfo)
_operation_list: Final = msgspec.json.Decoder(OperationList)


def _path(name: str, rest: str = "") -> str:
    return f"{_KEYS}/{quote(name, safe='')}{rest}"


def _operation_path(request_id: str, rest: str = "") -> str:
    return f"{_OPERATIONS}/{quote(request_id, safe='')}{rest}"


def _sign_path(name: str, version: int | None) -> str:
    return _path(name, ":sign" if version is None else f"/versions/{version}:sign")


def _read(decoder: msgspec.json.Decoder[T], response: httpx.Response) -> T:
    content = raise_problem(response).content
    try:
        if response.status_code == _ACCEPTED:
            raise ApprovalNeeded(_operation.decode(content))
        return decoder.decode(content)
    except msgspec.DecodeError:
        raise Problem(502, "unreadable-answer", "the HSM service gave an answer of another form") from None


def _unreachable(error: httpx.TransportError) -> Problem:
    return Problem(503, "hsm-unreachable", f"the HSM service does not answer: {type(error).__name__}")


class AsyncTransport(Protocol):
    """What an asynchronous client needs: `runtime.keepalive.KeepAliveClient`, or an `httpx.AsyncClient`."""

    async def request(
        self, method: str, url: str, *, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response: ...

    async def aclose(self) -> None: ...


class HsmClient:
    """Blocking client; safe for threads as httpx is."""

    def __init__(self, transport: httpx.Client) -> None:
        self._transport = transport

    @classmethod
    def connect(cls, url: str, tls: TlsFiles, *, timeout: float = 30.0) -> Self:
        """A client of the service at `url`, calling as the certificate of `tls`."""
        return cls(http_client(tls, url, timeout=timeout))

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
        return self._ask("POST", _KEYS, _key_info, GenerateCommand(name, template, owner, reason))

    def operations(self) -> list[OperationInfo]:
        """All requests for operations on keys, the newest first; for officers."""
        return self._ask("GET", _OPERATIONS, _operation_list).operations

    def operation(self, request_id: str) -> OperationInfo:
        """One request."""
        return self._ask("GET", _operation_path(request_id), _operation)

    def approve(self, request_id: str, approval: bytes) -> OperationInfo:
        """Hand in an officer's signed approval or rejection; the last one that was missing executes the operation."""
        return self._ask("POST", _operation_path(request_id, "/approvals"), _operation, ApproveCommand(approval))

    def execute(self, request_id: str) -> OperationInfo:
        """Do what is approved and could not be done then."""
        return self._ask("POST", _operation_path(request_id, ":execute"), _operation)

    def describe_key(self, name: str) -> KeyInfo:
        """See `SigningService`."""
        return self._ask("GET", _path(name), _key_info)

    def list_keys(self) -> list[KeyInfo]:
        """See `SigningService`."""
        return self._ask("GET", _KEYS, _key_list).keys

    def certification_request(self, name: str, subject: bytes, san_uris: Sequence[str] = ()) -> bytes:
        """See `SigningService`."""
        info = compose_request(subject, san_uris, self.describe_key(name))
        return self.sign(name, "request", info).signed

    def attach_certificate(self, name: str, chain: Sequence[bytes]) -> None:
        """See `SigningService`."""
        self._ask("PUT", _path(name, "/certificate"), _key_info, AttachCommand(tuple(chain)))

    def sign_certificate(self, name: str, tbs: bytes, basis: Basis | None = None) -> bytes:
        """See `SigningService`."""
        return self.sign(name, "certificate", tbs, basis=basis).signed

    def sign_crl(self, name: str, tbs: bytes) -> bytes:
        """See `SigningService`."""
        return self.sign(name, "crl", tbs).signed

    def sign_cms(self, name: str, content_type: str, content: bytes) -> bytes:
        """See `SigningService`."""
        return self.sign(name, "cms", content, content_type=content_type).signed

    def attest_key(self, name: str) -> bytes:
        """See `SigningService`."""
        return self._ask("POST", _path(name, ":attest"), _signed).signed

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
        command = SignCommand(kind, content, content_type, basis, algorithm)
        return self._ask("POST", _sign_path(name, version), _signed, command)

    def _ask(self, method: str, path: str, decoder: msgspec.json.Decoder[T], body: Any = None) -> T:
        content = _encoder.encode(body) if body is not None else None
        try:
            response = self._transport.request(method, path, content=content, headers=_HEADERS)
        except httpx.TransportError as error:
            raise _unreachable(error) from error
        return _read(decoder, response)


class AsyncHsmClient:
    """Client for an event loop, with a bounded pool of kept-alive connections. Belongs to one event loop."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    @classmethod
    def connect(cls, url: str, tls: TlsFiles, *, timeout: float = 30.0, connections: int = CONNECTIONS) -> Self:
        """A client of the service at `url`, calling as the certificate of `tls`."""
        return cls(
            KeepAliveClient(
                url, client_context(tls), timeout=timeout, connections=connections, largest_answer=_LARGEST_ANSWER
            )
        )

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
        return await self._ask("POST", _KEYS, _key_info, GenerateCommand(name, template, owner, reason))

    async def describe_key(self, name: str) -> KeyInfo:
        """See `SigningService`."""
        return await self._ask("GET", _path(name), _key_info)

    async def list_keys(self) -> list[KeyInfo]:
        """See `SigningService`."""
        return (await self._ask("GET", _KEYS, _key_list)).keys

    async def certification_request(self, name: str, subject: bytes, san_uris: Sequence[str] = ()) -> bytes:
        """See `SigningService`."""
        info = compose_request(subject, san_uris, await self.describe_key(name))
        return (await self.sign(name, "request", info)).signed

    async def attach_certificate(self, name: str, chain: Sequence[bytes]) -> None:
        """See `SigningService`."""
        await self._ask("PUT", _path(name, "/certificate"), _key_info, AttachCommand(tuple(chain)))

    async def sign_certificate(self, name: str, tbs: bytes, basis: Basis | None = None) -> bytes:
        """See `SigningService`."""
        return (await self.sign(name, "certificate", tbs, basis=basis)).signed

    async def sign_crl(self, name: str, tbs: bytes) -> bytes:
        """See `SigningService`."""
        return (await self.sign(name, "crl", tbs)).signed

    async def sign_cms(self, name: str, content_type: str, content: bytes) -> bytes:
        """See `SigningService`."""
        return (await self.sign(name, "cms", content, content_type=content_type)).signed

    async def attest_key(self, name: str) -> bytes:
        """See `SigningService`."""
        return (await self._ask("POST", _path(name, ":attest"), _signed)).signed

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
        """As `HsmClient.sign`."""
        command = SignCommand(kind, content, content_type, basis, algorithm)
        return await self._ask("POST", _sign_path(name, version), _signed, command)

    async def _ask(self, method: str, path: str, decoder: msgspec.json.Decoder[T], body: Any = None) -> T:
        content = _encoder.encode(body) if body is not None else None
        try:
            response = await self._transport.request(method, path, content=content, headers=_HEADERS)
        except httpx.TransportError as error:
            raise _unreachable(error) from error
        return _read(decoder, response)
