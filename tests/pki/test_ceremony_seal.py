"""What is signed about a ceremony's transcript: one encoding, and no person counted twice."""

from __future__ import annotations

import pytest

from pki import ceremony_seal
from pki.ceremony_seal import MAX_PARTICIPANTS, CeremonySeal, _CeremonySeal, _Signature
from pki.der import encode
from pki.errors import DerError

TIP = bytes(range(32))
SEAL = CeremonySeal("kwbp-founding", 42, TIP)
ONE, TWO = b"\1" * 32, b"\2" * 32


def raw(version: int = 1, entries: int = 42, signatures: tuple[tuple[str, bytes], ...] = ()) -> bytes:
    return encode(
        _CeremonySeal(
            version=version,
            ceremony="kwbp-founding",
            entries=entries,
            tip=TIP,
            signatures=[_Signature(person=person, digest=digest) for person, digest in signatures],
        )
    )


def test_a_seal_reads_as_it_was_written() -> None:
    assert CeremonySeal.from_der(SEAL.to_der()) == SEAL
    assert SEAL.to_der() == raw()


def test_the_countersigned_seal_lists_persons_in_the_order_of_their_names() -> None:
    both = SEAL.countersigning({"officer-2": TWO, "officer-1": ONE})
    assert both.signatures == (("officer-1", ONE), ("officer-2", TWO))
    assert CeremonySeal.from_der(both.to_der()) == both


@pytest.mark.parametrize(
    ("der", "reason"),
    [
        (raw(version=2), "bad_version"),
        (raw(entries=0), "bad_version"),
        (raw(entries=1 << 31), "bad_version"),
        (raw(signatures=(("b", ONE), ("a", TWO))), "not_canonical"),
        (raw(signatures=(("a", ONE), ("a", TWO))), "not_canonical"),
        (raw(signatures=(("a", ONE), ("b", ONE))), "not_canonical"),
        (raw() + b"\0", "malformed"),
        (b"", "malformed"),
    ],
)
def test_anything_else_is_refused(der: bytes, reason: str) -> None:
    with pytest.raises(DerError) as refused:
        CeremonySeal.from_der(der)
    assert refused.value.reason == reason


def test_what_does_not_fit_is_not_written() -> None:
    crowd = {f"officer-{number:02}": bytes([number]) * 32 for number in range(MAX_PARTICIPANTS + 1)}
    with pytest.raises(ValueError):
        SEAL.countersigning(crowd).to_der()


def test_two_persons_seal_at_least() -> None:
    assert ceremony_seal.PARTICIPANTS == 2
