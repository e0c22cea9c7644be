"""What `scripts/bench protocol` measures: each message built and checked, the gateway's whole check, refusals of junk.

Keys are in memory, so no token is waited for. Of building, what a key does is left out: content, signed attributes,
SignedData and wrapper are made, and a signature that was made before is put in. Of checking, what the signatures cost
is shown apart.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Literal

from cryptography import x509

from kwbp.errors import ProtocolError
from kwbp.gateway import receive_auth_req
from kwbp.wrapper import unwrap
from pki import cms_signed
from pki.cms_signed import SignedData, assemble_signed_data, build_signed_attributes, parse_signed_data
from pki.oids import CT_AUTH_REQ
from tests.kwbp.catalogue import Catalogue, Exchange
from tests.support.pki_factory import Credential, Key, p256, rsa_key

Kind = Literal["p256", "rsa3072"]
_FIRST_RSA_KEY: Final = 20  # the numbers below are those of tests
_TWINS: Final = 400


@dataclass(frozen=True)
class Operation:
    """Something to be done very often: `name` of its metric without unit, `words` for people."""

    name: str
    words: str
    run: Callable[[], Any]


def catalogue(kind: Kind) -> Catalogue:
    """All parties, with keys of this kind."""
    if kind == "p256":
        return Catalogue(p256)
    numbers = count(_FIRST_RSA_KEY)

    def make() -> Key:
        return rsa_key(next(numbers))

    return Catalogue(make)


def operations(kind: Kind, parties: Catalogue) -> Iterator[Operation]:
    """Each message of the catalogue and the gateway's check."""
    suffix = "" if kind == "p256" else f"_{kind}"
    for name, exchange in parties.exchanges.items():
        yield Operation(f"build_{name}{suffix}", f"row {exchange.row}, {name}: build", _build(exchange))
        message = exchange.message
        yield Operation(f"check_{name}{suffix}", f"row {exchange.row}, {name}: check", _Checking(exchange, message))
        verified = _verified(exchange, message)
        if verified:
            words = f"row {exchange.row}, {name}: of these, {len(verified)} signatures"
            yield Operation(f"check_{name}_signatures{suffix}", words, _Verifying(verified))
    yield from gateway_checks(kind, parties)


def gateway_checks(kind: Kind, parties: Catalogue) -> Iterator[Operation]:
    """The gateway's whole check of an AuthReq."""
    auth_req = parties.exchanges["auth_req"]
    signatures = _verified(auth_req, auth_req.message)
    if len(signatures) != 3:
        raise ValueError("an AuthReq is checked with three signatures")
    checking = _Checking(auth_req, auth_req.message)
    yield Operation(f"gateway_check_{kind}", f"gateway's whole check of an AuthReq, {kind}", checking)
    words = f"of these, the three signatures, {kind}"
    yield Operation(f"gateway_check_signatures_{kind}", words, _Verifying(signatures))


def junk(parties: Catalogue) -> Iterator[Operation]:
    """What is no AuthReq, refused by structure alone: no key is used and no path looked for."""
    honest = parties.exchanges["auth_req"].message
    rng = random.Random(40)  # noqa: S311  # figures, no secrets
    flipped = [_flip(honest, at) for at in rng.sample(range(len(honest)), _TWINS)]
    for name, words, twins in (
        ("random", "64 random bytes", [rng.randbytes(64) for _ in range(20)]),
        ("random_long", "250,000 random bytes", [rng.randbytes(250_000) for _ in range(4)]),
        ("truncated", "an AuthReq cut off", [honest[: rng.randrange(len(honest))] for _ in range(40)]),
        ("huge_length", "a length that is far beyond the end", [_huge(honest, size) for size in (2**24, 2**32 - 1)]),
        (
            "nested",
            "an AuthReq with nesting without end in it",
            [_nested(honest, depth) for depth in (40, 3000, 60_000)],
        ),
        ("crowd", "250,000 bytes of the smallest members", [_crowd(honest)]),
        ("flipped", f"an AuthReq with one byte flipped, the mean of those of {_TWINS} that structure refuses", flipped),
    ):
        refused = [twin for twin in twins if _is_refused(twin)]
        if not refused:
            raise ValueError(f"junk that is accepted: {name}")
        yield Operation(f"junk_{name}", f"junk refused: {words}", _Refusing(refused))
    late = max(at for at in range(len(honest)) if _is_refused(_flip(honest, at)))
    yield Operation(
        "junk_flipped_last", "junk refused: the last byte that matters flipped", _Refusing([_flip(honest, late)])
    )


class _Checking:
    """The receiver's whole check of a message."""

    def __init__(self, exchange: Exchange, message: bytes) -> None:
        self._check, self._message = exchange.check, message

    def __call__(self) -> Any:
        return self._check(self._message)


class _Verifying:
    """The signatures of a message, and nothing else of its check."""

    def __init__(self, signed: Sequence[SignedData]) -> None:
        self._signed = signed

    def __call__(self) -> None:
        for each in self._signed:
            cms_signed.verify_signature(each)


class _Refusing:
    """One piece of junk after the other."""

    def __init__(self, twins: Sequence[bytes]) -> None:
        self._twins, self._at = twins, 0

    def __call__(self) -> None:
        self._at = (self._at + 1) % len(self._twins)
        with suppress(ProtocolError):
            _structure(self._twins[self._at])


def _structure(data: bytes) -> Any:
    return receive_auth_req(unwrap(data, expected=[CT_AUTH_REQ]))


def _is_refused(data: bytes) -> bool:
    try:
        _structure(data)
    except ProtocolError:
        return True
    return False


def _build(exchange: Exchange) -> Callable[[], bytes]:
    by = exchange.by
    if by is None:
        return exchange.make
    draft = exchange.draft()
    signature = parse_signed_data(by.sign(draft.content_type, draft.content), content_type=draft.content_type).signature

    def build() -> bytes:
        made = exchange.draft()
        return exchange.finish(made, _signed(made.content_type, made.content, by, signature))

    return build


def _signed(kind: x509.ObjectIdentifier, content: bytes, by: Credential, signature: bytes) -> bytes:
    attributes = build_signed_attributes(kind, content, signer=by.certificate, signing_time=by.now)
    return assemble_signed_data(kind, content, attributes, signature, signer=by.certificate, chain=by.chain)


def _verified(exchange: Exchange, message: bytes) -> list[SignedData]:
    """What the check of a message verifies."""
    with _listening() as heard:
        exchange.check(message)
    return heard


@contextmanager
def _listening() -> Iterator[list[SignedData]]:
    heard: list[SignedData] = []
    original = cms_signed.verify_signature

    def listening(signed: SignedData) -> None:
        heard.append(signed)
        original(signed)

    cms_signed.verify_signature = listening
    try:
        yield heard
    finally:
        cms_signed.verify_signature = original


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 0x21,)) + data[at + 1 :]


def _huge(data: bytes, size: int) -> bytes:
    return b"\x30\x84" + size.to_bytes(4, "big") + data


def _nested(data: bytes, depth: int) -> bytes:
    """The wrapper, with nesting in the place of its body."""
    inner = b""
    for _ in range(depth):
        size = len(inner)
        inner = b"\x30" + (bytes((size,)) if size < 0x80 else b"\x83" + size.to_bytes(3, "big")) + inner
        if len(inner) > 250_000:
            break
    return data[: len(data) // 2] + inner


def _crowd(data: bytes) -> bytes:
    """A SignedData with very many certificates, in an honest wrapper."""
    from kwbp.structure import decode, encode
    from kwbp.wrapper import KwbpMessage
    from pki.der import encode as der_encode
    from pki.der import tlv
    from pki.oids import SIGNED_DATA

    wrapper = decode(KwbpMessage, data)
    content = tlv(0x30, der_encode(CT_AUTH_REQ) + tlv(0xA0, tlv(0x04, b"x")))
    members = der_encode(3) + tlv(0x31, b"") + content + tlv(0xA0, b"\x05\x00" * 120_000) + tlv(0x31, b"")
    body = tlv(0x30, der_encode(SIGNED_DATA) + tlv(0xA0, tlv(0x30, members)))
    return encode(
        KwbpMessage(version=wrapper.version, msg_type=wrapper.msg_type, rrpid=wrapper.rrpid, xid=wrapper.xid, body=body)
    )
