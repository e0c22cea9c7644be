"""A prime that two keys share is found, whichever comes first and however many come at once (CPS 6.1.6)."""

from __future__ import annotations

import random

import gmpy2
import pytest

from ca.shared_factors import SharedFactors

BITS = 256  # of a prime: small ones are quick, and the arithmetic is the same


def primes(count: int, seed: int = 1) -> list[int]:
    random_ = random.Random(seed)
    return [int(gmpy2.next_prime(random_.getrandbits(BITS) | 1 << (BITS - 1))) for _ in range(count)]


PRIMES = primes(48)
SOUND = [p * q for p, q in zip(PRIMES[0:40:2], PRIMES[1:40:2], strict=True)]
SHARED = PRIMES[0]
WEAK = SHARED * PRIMES[40]


def known(*moduli: int) -> SharedFactors:
    made = SharedFactors()
    made.add(moduli)
    return made


def test_sound_moduli_have_nothing_in_common() -> None:
    assert known(*SOUND[:10]).find_many(SOUND[10:]) == [None] * 10
    assert known().find(SOUND[0]) is None
    assert known(*SOUND).find_many([]) == []


@pytest.mark.parametrize("others", [0, 1, 10, 600])
def test_a_shared_prime_is_found_among_any_number_of_keys(others: int) -> None:
    filling = [PRIMES[41] ** 2 * (2 * n + 1) for n in range(others)]  # of no interest but their number

    assert known(*filling, SOUND[0]).find(WEAK) == SHARED
    assert known(SOUND[0], *filling).find(WEAK) == SHARED


def test_only_the_keys_that_share_are_named() -> None:
    found = known(*SOUND).find_many([PRIMES[42] * PRIMES[43], WEAK, PRIMES[44] * PRIMES[45]])

    assert found == [None, SHARED, None]


def test_keys_that_come_together_are_held_against_each_other() -> None:
    assert known().find_many([SOUND[0], WEAK, SOUND[3]]) == [SHARED, SHARED, None]


def test_a_key_that_is_known_itself_is_no_reason_and_hides_none() -> None:
    assert known(*SOUND).find_many(SOUND[:3]) == [None] * 3
    assert known(*SOUND, *SOUND).find(SOUND[5]) is None
    assert len(known(*SOUND, *SOUND)) == len(SOUND)
    assert known(*SOUND, WEAK).find(WEAK) == SHARED
    assert known(*SOUND, WEAK).find(SOUND[0]) == SHARED
    assert known().find_many([SOUND[0], SOUND[0]]) == [None, None]
