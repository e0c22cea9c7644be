"""What may be stamped, one wrong thing at a time; the numbers of time-stamps; a clock that jumps."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.tsa import ACCURACY, MAX_REQUEST, Numbers, Rejection, read_request, tst_info
from ca.tsa_clock import SETTLE, TimeDoubtfulError, TrustedClock
from pki import oids
from pki.der import any_value, decode, encode, tlv
from pki.names import name
from pki.timestamp import build_query
from pki.timestamp_structures import (
    IMPRINT_IDENTIFIER,
    Extension,
    Failure,
    MessageImprint,
    TimeStampReq,
    TstInfo,
    imprint_of,
)
from tests.support.pki_factory import NOW

DATA = b"a message"
SHA1 = tlv(0x30, bytes.fromhex("06052b0e03021a0500"))
MD5 = tlv(0x30, bytes.fromhex("06082a864886f70d02050500"))


def request(**changes: Any) -> bytes:
    """A TimeStampReq; each argument is one thing to have otherwise."""
    fields: dict[str, Any] = {
        "version": 1,
        "message_imprint": imprint_of(DATA),
        "req_policy": None,
        "nonce": 5,
        "cert_req": True,
        "extensions": None,
    }
    return encode(TimeStampReq(**{**fields, **changes}))


def imprint(identifier: bytes, size: int) -> MessageImprint:
    return MessageImprint(hash_algorithm=any_value(identifier), hashed_message=b"\x01" * size)


def extension(*, critical: bool) -> list[Extension]:
    return [Extension(id=oids.EXT_GATEWAY_DATA, critical=critical, value=b"\x05\x00")]


TWINS: dict[str, tuple[Callable[[], bytes], Failure]] = {
    "nothing": (lambda: b"", Failure.BAD_DATA_FORMAT),
    "a trailing byte": (lambda: request() + b"\0", Failure.BAD_DATA_FORMAT),
    "a long length": (lambda: b"\x30\x81" + request()[1:], Failure.BAD_DATA_FORMAT),
    "a FALSE that DER leaves out": (
        lambda: tlv(0x30, bytes(any_value(request(cert_req=False)).data) + b"\x01\x01\x00"),
        Failure.BAD_DATA_FORMAT,
    ),
    "too many bytes": (lambda: request() + bytes(MAX_REQUEST), Failure.BAD_DATA_FORMAT),
    "version 2": (lambda: request(version=2), Failure.BAD_REQUEST),
    "SHA-1": (lambda: request(message_imprint=imprint(SHA1, 20)), Failure.BAD_ALG),
    "MD5": (lambda: request(message_imprint=imprint(MD5, 16)), Failure.BAD_ALG),
    "an algorithm that is a number": (lambda: request(message_imprint=imprint(b"\x02\x01\x01", 32)), Failure.BAD_ALG),
    "a SHA-256 of 31 bytes": (
        lambda: request(message_imprint=imprint(IMPRINT_IDENTIFIER["sha256"], 31)),
        Failure.BAD_DATA_FORMAT,
    ),
    "a SHA-512 of 32 bytes": (
        lambda: request(message_imprint=imprint(IMPRINT_IDENTIFIER["sha512"], 32)),
        Failure.BAD_DATA_FORMAT,
    ),
    "another policy": (lambda: request(req_policy=oids.POLICY_SERVICE), Failure.UNACCEPTED_POLICY),
    "an extension": (lambda: request(extensions=extension(critical=False)), Failure.UNACCEPTED_EXTENSION),
    "a critical extension": (lambda: request(extensions=extension(critical=True)), Failure.UNACCEPTED_EXTENSION),
    "a negative nonce": (lambda: request(nonce=-1), Failure.BAD_REQUEST),
    "a nonce of 161 bits": (lambda: request(nonce=1 << 160), Failure.BAD_REQUEST),
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_request_with_one_wrong_thing_is_refused_for_it(twin: str) -> None:
    make, failure = TWINS[twin]
    with pytest.raises(Rejection) as caught:
        read_request(make())
    assert caught.value.failure is failure
    assert caught.value.retry_after is None


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("policy", [None, oids.POLICY_TIMESTAMP], ids=["any", "ours"])
def test_what_is_asked_comes_back(algorithm: str, policy: Any) -> None:
    question = read_request(build_query(DATA, nonce=77, algorithm=algorithm, policy=policy))
    info = decode(TstInfo, tst_info(question, moment=NOW, serial=9, authority=name(cn="Time")))
    assert encode(info.message_imprint) == encode(imprint_of(DATA, algorithm))
    assert (info.nonce, info.serial_number, info.policy, info.ordering) == (77, 9, oids.POLICY_TIMESTAMP, False)
    assert info.accuracy is not None
    assert (info.accuracy.seconds, info.accuracy.millis) == (ACCURACY, None)


def test_gen_time_has_no_fraction() -> None:
    question = read_request(request(nonce=None, cert_req=False))
    late = NOW + timedelta(microseconds=999_999)
    info = decode(TstInfo, tst_info(question, moment=late, serial=9, authority=name(cn="Time")))
    assert info.gen_time.as_datetime().replace(tzinfo=UTC) == NOW
    assert info.nonce is None
    assert question.wants_certificates is False


@given(st.binary(max_size=300))
def test_bytes_that_are_nothing_are_refused(data: bytes) -> None:
    with pytest.raises(Rejection):
        read_request(data)


@given(st.integers(0, len(request()) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_asks_for_something_else(place: int, change: int) -> None:
    changed = bytearray(request())
    changed[place] ^= change
    try:
        question = read_request(bytes(changed))
    except Rejection:
        return
    sent = imprint_of(DATA).hashed_message
    assert (question.imprint.hashed_message, question.nonce, question.wants_certificates) != (sent, 5, True)


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_numbers_begin_with_gen_time_and_grow() -> None:
    numbers = Numbers(os.urandom)
    moments = [NOW, NOW, NOW + timedelta(microseconds=1), NOW + timedelta(seconds=1), NOW + timedelta(seconds=1)]
    given_ = [numbers.next(moment) for moment in moments]
    assert given_ == sorted(set(given_))
    assert [number >> 64 for number in given_] == [int(moment.timestamp()) for moment in moments]


def test_two_replicas_and_a_restart_give_numbers_in_the_order_of_time() -> None:
    moments = [NOW + timedelta(microseconds=step) for step in range(50)]
    given_ = [Numbers(os.urandom).next(moment) for moment in moments]  # each by a process of its own
    assert given_ == sorted(set(given_))


def test_numbers_of_one_moment_differ_between_replicas() -> None:
    assert len({Numbers(os.urandom).next(NOW) for _ in range(100)}) == 100


# -- the clock ---------------------------------------------------------------------------------------------------------


class Machine:
    """Both clocks of a machine."""

    def __init__(self) -> None:
        self.wall: datetime = NOW
        self.monotonic = 1000.0
        self.clock = TrustedClock(lambda: self.wall, lambda: self.monotonic)

    def passes(self, seconds: float, *, parted: float = 0.0) -> None:
        self.monotonic += seconds
        self.wall += timedelta(seconds=seconds + parted)

    def doubtful(self) -> bool:
        try:
            self.clock.now()
        except TimeDoubtfulError:
            return True
        return False


def test_time_passes() -> None:
    machine = Machine()
    for seconds in (0.0, 0.1, 3600.0, 86_400.0):
        machine.passes(seconds)
        assert machine.clock.now() == machine.wall


@pytest.mark.parametrize("step", [-3600.0, -1.5, 1.5, 3600.0])
def test_a_clock_that_was_set_is_doubted_until_it_has_settled(step: float) -> None:
    machine = Machine()
    assert not machine.doubtful()
    machine.passes(1, parted=step)
    assert machine.doubtful()
    machine.passes(SETTLE - 1)
    assert machine.doubtful()
    machine.passes(1 + max(0.0, -step))  # and never before the last genTime
    assert not machine.doubtful()


def test_gen_time_never_goes_back() -> None:
    machine = Machine()
    machine.passes(0.5)
    machine.clock.now()
    machine.passes(0.1, parted=-0.9)  # too little for a jump
    assert machine.doubtful()
    machine.passes(0.4)
    assert machine.clock.now() >= NOW


def test_what_ntp_slews_is_no_jump() -> None:
    machine = Machine()
    machine.clock.now()
    machine.passes(86_400, parted=0.0005 * 86_400)
    assert not machine.doubtful()
