"""KeyAttestation: what a token says about a key."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pki.attestation import KeyAttestation
from pki.errors import DerError
from tests.support.der_surgery import parse
from tests.support.pki_factory import NOW

HONEST = KeyAttestation(
    key_name="merchant-ca",
    key_version=1,
    spki_sha256=bytes(32),
    token="ca",
    local=True,
    sensitive=True,
    always_sensitive=True,
    never_extractable=True,
    extractable=False,
    at=NOW,
)
GOOD = [True, True, True, True, False]
ATTRIBUTES = [field.name for field in fields(KeyAttestation) if field.type == "bool"]


def attested(values: list[bool]) -> KeyAttestation:
    """The honest one with these five attributes, in the order of the structure."""
    local, sensitive, always_sensitive, never_extractable, extractable = values
    return replace(
        HONEST,
        local=local,
        sensitive=sensitive,
        always_sensitive=always_sensitive,
        never_extractable=never_extractable,
        extractable=extractable,
    )


def test_it_is_read_back() -> None:
    assert KeyAttestation.from_der(HONEST.to_der()) == HONEST


def test_the_moment_is_kept_in_whole_seconds() -> None:
    fine = replace(HONEST, at=datetime(2026, 3, 21, 12, 0, 0, 5, tzinfo=UTC))
    assert KeyAttestation.from_der(fine.to_der()) == HONEST


def test_a_key_generated_in_the_token_and_never_extractable_is_bound_to_it() -> None:
    assert HONEST.born_and_bound_in_token


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_key_with_one_attribute_otherwise_is_not(attribute: str) -> None:
    assert len(ATTRIBUTES) == 5
    values = [value != (name == attribute) for name, value in zip(ATTRIBUTES, GOOD, strict=True)]
    changed = KeyAttestation.from_der(attested(values).to_der())
    assert not changed.born_and_bound_in_token


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((0, b"\x02"), "bad_version"),
        ((2, b"\x01" + bytes(200)), "bad_version"),
        ((3, bytes(31)), "malformed"),
        ((1, b""), "malformed"),
        ((5, b"\x01"), "malformed"),
        ((10, b"20260321120000"), "malformed"),
    ],
    ids=["version", "version of the key", "hash", "name", "boolean", "time"],
)
def test_malformed_contents_are_refused(change: tuple[int, bytes], reason: str) -> None:
    tree = parse(HONEST.to_der())
    tree.at(change[0]).content = change[1]
    with pytest.raises(DerError) as refused:
        KeyAttestation.from_der(tree.encode())
    assert refused.value.reason == reason


def test_a_hash_of_another_size_is_not_written() -> None:
    with pytest.raises(ValueError):
        replace(HONEST, spki_sha256=bytes(20)).to_der()


@given(st.lists(st.booleans(), min_size=5, max_size=5))
def test_only_one_combination_of_attributes_is_good(values: list[bool]) -> None:
    assert attested(values).born_and_bound_in_token is (values == GOOD)
