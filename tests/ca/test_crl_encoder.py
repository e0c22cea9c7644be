"""A list is signed as the database stated it, or not at all: a short one in one, a long one while it is written."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from ca.crl import crl_frame, entry_der
from ca.crl_encoder import SMALL, Asked, write_tbs
from ca.crl_store import Listing
from ca.errors import SigningRefusedError, StoreError
from runtime.problems import Problem
from tests.support.ca_world import CaWorld

ISSUER = "cardholder-ca"
PIECEWISE = 100
"""So few bytes are already sent in pieces."""


@pytest.fixture(params=[SMALL, PIECEWISE], ids=["in one", "in pieces"])
def asked(request: pytest.FixtureRequest, world: CaWorld, monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setattr("ca.crl_encoder.SMALL", request.param)
    return Asked(world.keys, world.authority.hierarchy[ISSUER].issuer, 1)


def write(world: CaWorld, asked: Asked, path: Path, wrong_by: int = 0) -> str:
    authority = world.authority.hierarchy[ISSUER]
    assert authority.profile.ca is not None
    chunks = [entry_der(format(serial, "x"), world.clock.now - timedelta(days=1), "superseded") for serial in (7, 300)]
    size = sum(map(len, chunks)) + wrong_by
    frame = crl_frame(authority.issuer, number=1 << 33, size=size, rule=authority.profile.ca.crl, now=world.clock.now)
    return write_tbs(path, asked, frame, Listing(2, len(chunks), size, iter(chunks)))()


def test_a_list_is_in_its_file_whole_and_signed(world: CaWorld, asked: Asked, tmp_path: Path) -> None:
    sha256 = write(world, asked, tmp_path / "list")

    crl = x509.load_der_x509_crl((tmp_path / "list").read_bytes())
    assert crl.is_signature_valid(asked.issuer.public_key)  # type: ignore[arg-type]  # no key agreement
    assert [entry.serial_number for entry in crl] == [7, 300]
    assert crl.fingerprint(crl.signature_hash_algorithm).hex() == sha256  # type: ignore[arg-type]  # ECDSA with SHA-256


@pytest.mark.parametrize("wrong_by", [-1, 1])
def test_entries_of_another_size_than_was_stated_are_not_signed(
    world: CaWorld, asked: Asked, tmp_path: Path, wrong_by: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed: list[Any] = []
    monkeypatch.setattr(world.keys, "sign_crl", lambda *arguments: signed.append(arguments))
    with pytest.raises(StoreError, match="not of the size that the database stated"):
        write(world, asked, tmp_path / "list", wrong_by)
    assert signed == []


def test_what_the_service_refuses_is_raised_at_the_end(
    world: CaWorld, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> bytes:
        raise Problem(409, "crl-number-not-larger", "another was quicker")

    monkeypatch.setattr(world.keys, "sign_crl", refuse)
    with pytest.raises(SigningRefusedError) as caught:
        write(world, asked, tmp_path / "list")
    assert isinstance(caught.value.__cause__, Problem)


def test_a_service_that_waited_too_long_for_the_database_is_asked_again_when_all_is_there(
    world: CaWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ca.crl_encoder.SMALL", PIECEWISE)
    asked = Asked(world.keys, world.authority.hierarchy[ISSUER].issuer, 1)
    problems = [Problem(408, "body-too-slow", "the body did not come within 30 s")]
    sign = world.keys.sign_crl

    def impatient(*arguments: Any) -> Any:
        if problems:
            raise problems.pop()
        return sign(*arguments)

    monkeypatch.setattr(world.keys, "sign_crl", impatient)
    write(world, asked, tmp_path / "list")

    crl = x509.load_der_x509_crl((tmp_path / "list").read_bytes())
    assert crl.is_signature_valid(asked.issuer.public_key)
    assert problems == []
