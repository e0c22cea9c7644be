"""The calls of the signing API as values, and the course of one call: what both clients share, without any I/O.

A `Call` says what is sent, what the answer is read as, and why it may be sent twice, if it may. A `Conversation` is one
call with its attempts: the client sends what it says, tells it what came, and waits as long as it says.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from hsm_service.key_commands import (
    Backup,
    BackupCommand,
    ChangeCommand,
    DestroyCommand,
    LimitsCommand,
    RotateCommand,
)
from hsm_service.operation_info import ApprovalNeeded, ApproveCommand, OperationInfo, OperationList
from hsm_service.retry import RetryPolicy, retry_after
from hsm_service.service import Checked, KeyInfo, SignCommand, Signed, SignedCrl, SignKind
from hsm_service.wire import (
    AttachCommand,
    BatchAnswer,
    BatchCommand,
    BatchItem,
    CertificateChain,
    GenerateCommand,
    KeyList,
)
from runtime.client import raise_problem
from runtime.keepalive import Answer
from runtime.problems import Problem

T = TypeVar("T")

DER: Final = "application/octet-stream"
"""Media type of a structure that is sent as it is."""

_KEYS: Final = "/v1/keys"
_OPERATIONS: Final = "/v1/operations"
_ACCEPTED: Final = 202
_UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""The service has not seen a request that ended so."""
_encoder: Final = msgspec.json.Encoder()
_operation: Final = msgspec.json.Decoder(OperationInfo)
_key_info: Final = msgspec.json.Decoder(KeyInfo)
_key_list: Final = msgspec.json.Decoder(KeyList)
_chain: Final = msgspec.json.Decoder(CertificateChain)
_signed: Final = msgspec.json.Decoder(Signed)
_signed_crl: Final = msgspec.json.Decoder(SignedCrl)
_checked: Final = msgspec.json.Decoder(Checked)
_batch: Final = msgspec.json.Decoder(BatchAnswer)
_backup: Final = msgspec.json.Decoder(Backup)
_operation_list: Final = msgspec.json.Decoder(OperationList)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. `keyed`: an Idempotency-Key makes it repeatable; otherwise `repeatable` says whether it is so."""

    method: str
    path: str
    decoder: msgspec.json.Decoder[T]
    body: bytes | None = None
    keyed: bool = False
    repeatable: bool = True
    parts: Callable[[], Iterable[bytes]] | None = None
    """Instead of `body`: what is sent in pieces, anew for each attempt."""
    key: str | None = None
    """The Idempotency-Key, if it is not drawn: the same after a restart of whoever asks."""


class Conversation(Generic[T]):
    """The attempts of one call. `headers` are those of every attempt; `answer` what the last one gave."""

    answer: T

    def __init__(self, call: Call[T], policy: RetryPolicy, now: float) -> None:
        self._call = call
        self._policy = policy
        self._began = now
        self._attempt = 0
        self.headers: dict[str, str] = {"content-type": "application/json" if call.parts is None else DER}
        if call.keyed and policy.keyed and policy.attempts > 1:
            self.headers["idempotency-key"] = call.key or secrets.token_urlsafe(18)

    def answered(self, response: Answer, now: float, draw: float) -> float | None:
        """None when `answer` is there, else the seconds to wait before the next attempt; raises Problem."""
        self._attempt += 1
        asked = retry_after(response.status_code, response.headers)
        if asked is not None:
            pause = self._policy.pause(self._attempt, now - self._began, draw, asked)
            if pause is not None:
                return pause
        self.answer = _read(self._call.decoder, response)
        return None

    def failed(self, error: httpx.TransportError, now: float, draw: float) -> float:
        """The seconds to wait before the next attempt; raises Problem 503 `hsm-unreachable` if there is none."""
        self._attempt += 1
        if isinstance(error, _UNSENT) or self._call.repeatable or "idempotency-key" in self.headers:
            pause = self._policy.pause(self._attempt, now - self._began, draw)
            if pause is not None:
                return pause
        raise Problem(503, "hsm-unreachable", f"the HSM service does not answer: {type(error).__name__}") from error


def _read(decoder: msgspec.json.Decoder[T], response: Answer) -> T:
    try:
        content = raise_problem(response).content
    except Problem as problem:
        if "retry-after" in response.headers:  # for whoever has a schedule of its own
            problem.headers = {**problem.headers, "Retry-After": response.headers["retry-after"]}
        raise
    try:
        if response.status_code == _ACCEPTED:
            raise ApprovalNeeded(_operation.decode(content))
        return decoder.decode(content)
    except msgspec.DecodeError:
        raise Problem(502, "unreadable-answer", "the HSM service gave an answer of another form") from None


# -- keys --------------------------------------------------------------------------------------------------------------


def generate(name: str, template: str, owner: str | None, reason: str) -> Call[KeyInfo]:
    """Make a key."""
    return _keyed(_KEYS, _key_info, GenerateCommand(name, template, owner, reason))


def describe(name: str, version: int | None = None) -> Call[KeyInfo]:
    """A key, by default the version in use."""
    return Call("GET", _key(name, version), _key_info)


def keys() -> Call[KeyList]:
    """All keys of the caller."""
    return Call("GET", _KEYS, _key_list)


def versions(name: str) -> Call[KeyList]:
    """Every version of a key."""
    return Call("GET", f"{_key(name)}/versions", _key_list)


def chain(name: str) -> Call[CertificateChain]:
    """The certificates of a key."""
    return Call("GET", f"{_key(name)}/chain", _chain)


def attach(name: str, certificates: Sequence[bytes]) -> Call[KeyInfo]:
    """Give a key its certificates; the same ones again change nothing."""
    return Call("PUT", f"{_key(name)}/certificate", _key_info, _encoder.encode(AttachCommand(tuple(certificates))))


def attest(name: str) -> Call[Signed]:
    """The statement about a key."""
    return _keyed(f"{_key(name)}:attest", _signed)


# -- the life of keys --------------------------------------------------------------------------------------------------


def rotate(name: str, activate_at: datetime | None, reason: str) -> Call[KeyInfo]:
    """Make the next version."""
    return _keyed(f"{_key(name)}:rotate", _key_info, RotateCommand(activate_at, reason))


def change(name: str, version: int, to: Literal["enable", "disable", "keep"], reason: str) -> Call[KeyInfo]:
    """Enable or disable a version, or keep it."""
    return _keyed(f"{_key(name, version)}:{to}", _key_info, ChangeCommand(reason))


def destroy(name: str, version: int, at: datetime | None, reason: str) -> Call[KeyInfo]:
    """Have a version destroyed later."""
    return _keyed(f"{_key(name, version)}:destroy", _key_info, DestroyCommand(at, reason))


def limit(name: str, version: int | None, command: LimitsCommand) -> Call[KeyInfo]:
    """Limit a version; the same again changes nothing."""
    return Call("PUT", f"{_key(name, version)}/limits", _key_info, _encoder.encode(command))


def backup(name: str, version: int | None, recipient: bytes, attestation: bytes, reason: str) -> Call[Backup]:
    """Wrap a key for another token."""
    return _keyed(f"{_key(name, version)}:backup", _backup, BackupCommand(recipient, attestation, reason))


# -- signatures --------------------------------------------------------------------------------------------------------


def sign(name: str, command: SignCommand, version: int | None) -> Call[Signed]:
    """Sign a structure; a certificate asked for again, with the same basis, is the same one for a day.

    Its serial number is in what is signed, so who asks twice means one certificate: an authority that was killed before
    it got the answer, or a replica that goes on in its place. Two ECDSA signatures would be two.
    """
    return _once(_keyed(f"{_key(name, version)}:sign", _signed, command), command.kind)


def _once(call: Call[T], kind: SignKind) -> Call[T]:
    if kind != "certificate" or call.body is None:
        return call
    return replace(call, key=hashlib.sha256(call.path.encode() + b"\x00" + call.body).hexdigest())


def sign_crl(name: str, parts: Callable[[], Iterable[bytes]], version: int | None) -> Call[SignedCrl]:
    """Sign a list that is sent in pieces; the same one may be signed again, so it may be sent again."""
    return Call("POST", f"{_key(name, version)}:signCrl", _signed_crl, parts=parts)


def check(name: str, command: SignCommand, version: int | None) -> Call[Checked]:
    """The same judged only: nothing is signed, so it may be asked as often as one likes."""
    return Call("POST", f"{_key(name, version)}:sign?dry_run=true", _checked, _encoder.encode(command))


def batch_sign(
    name: str, kind: SignKind, items: Sequence[BatchItem], version: int | None, crls: Sequence[bytes] = ()
) -> Call[BatchAnswer]:
    """Sign many structures; certificates asked for again, all of them, are the same ones, as with `sign`."""
    return _once(_keyed(f"{_key(name, version)}:batchSign", _batch, BatchCommand(kind, list(items), tuple(crls))), kind)


# -- operations that officers approve ----------------------------------------------------------------------------------


def operations() -> Call[OperationList]:
    """All requests."""
    return Call("GET", _OPERATIONS, _operation_list)


def operation(request_id: str) -> Call[OperationInfo]:
    """One request."""
    return Call("GET", _request(request_id), _operation)


def approve(request_id: str, approval: bytes) -> Call[OperationInfo]:
    """Hand in an approval; the same bytes again change nothing."""
    body = _encoder.encode(ApproveCommand(approval))
    return Call("POST", f"{_request(request_id)}/approvals", _operation, body)


def execute(request_id: str) -> Call[OperationInfo]:
    """Do what is approved; what is done already is answered as it is."""
    return Call("POST", f"{_request(request_id)}:execute", _operation)


def _keyed(path: str, decoder: msgspec.json.Decoder[T], body: Any = None) -> Call[T]:
    return Call("POST", path, decoder, None if body is None else _encoder.encode(body), keyed=True, repeatable=False)


def _key(name: str, version: int | None = None) -> str:
    path = f"{_KEYS}/{quote(name, safe='')}"
    return path if version is None else f"{path}/versions/{version}"


def _request(request_id: str) -> str:
    return f"{_OPERATIONS}/{quote(request_id, safe='')}"
