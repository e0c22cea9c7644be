"""An RSA key that shares a prime with any other that was screened is not certified (CPS 6.1.6)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gmpy2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import Engine

from ca.errors import KeyRefusedError
from ca.store import Store
from runtime.database import open_database
from tests.support.ca_world import CaWorld
from tests.support.databases import DATABASES, ca_database
from tests.support.pki_factory import p256, rsa_key


@pytest.fixture(params=DATABASES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made = open_database(ca_database(request.param, tmp_path))
    yield made
    made.dispose()


def sharing(key: rsa.RSAPublicKey, other: int = 0) -> rsa.RSAPublicKey:
    """A key that has a prime in common with `rsa_key(other)`."""
    prime = rsa_key(other).private_numbers().p
    second = int(gmpy2.next_prime(key.public_numbers().n >> 1536))
    return rsa.RSAPublicNumbers(65_537, prime * second).public_key()


def test_a_key_that_shares_a_prime_is_refused_by_every_replica(engine: Engine) -> None:
    one, two = Store(engine).screening, Store(engine).screening
    sound, weak = rsa_key(0).public_key(), sharing(rsa_key(1).public_key())

    one.require_unshared([sound])
    with pytest.raises(KeyRefusedError, match="shares a prime") as refused:
        two.require_unshared([weak])
    assert refused.value.clause == "CPS 6.1.6"
    with pytest.raises(KeyRefusedError):  # and the sound one is lost with it
        one.require_unshared([sound])


def test_a_key_is_screened_again_and_again_and_meets_only_others(engine: Engine) -> None:
    screening = Store(engine).screening
    screening.remember([rsa_key(0).public_key(), p256().public_key()])

    for _ in range(2):
        screening.require_unshared([rsa_key(0).public_key(), rsa_key(1).public_key(), p256().public_key()])
    screening.require_unshared([p256().public_key()])


def test_keys_that_come_together_are_held_against_each_other(engine: Engine) -> None:
    with pytest.raises(KeyRefusedError):
        Store(engine).screening.require_unshared([rsa_key(0).public_key(), sharing(rsa_key(1).public_key())])


def test_the_pipeline_refuses_such_a_key_before_it_reserves_anything(world: CaWorld) -> None:
    world.authority.store.screening.remember([sharing(rsa_key(1).public_key())])

    with pytest.raises(KeyRefusedError, match="shares a prime"):  # the gateway's encryption key is rsa_key(0)
        world.authority.issuance.issue(world.approved_gateway())
    assert world.authority.store.unfinished() == []
