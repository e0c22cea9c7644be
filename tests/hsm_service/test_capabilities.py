"""From findings to purposes: what a token lacks decides which keys may be made in it, and the reason is told."""

from __future__ import annotations

import pytest

from hsm_service.capabilities import Ability, Capabilities, Finding
from hsm_service.purposes import ALGORITHMS, Purpose
from hsm_service.templates import built_in


def token_without(*lacking: Ability) -> Capabilities:
    return Capabilities(
        tuple(Finding(each, each not in lacking, "CKR_X" if each in lacking else "") for each in Ability)
    )


def test_a_token_that_does_everything_serves_every_purpose_with_every_algorithm() -> None:
    everything = token_without()
    assert everything.missing() == ()
    for service in everything.purposes():
        assert (service.ok, service.reason) == (True, "")
        assert service.algorithms == tuple(sorted(ALGORITHMS[Purpose(service.purpose)]))
    assert [service.purpose for service in everything.purposes()] == [purpose.value for purpose in Purpose]


def test_every_template_has_its_needs_in_the_tables() -> None:
    for template in built_in().templates.values():
        assert token_without().lacks(template.purpose, template.algorithm) == ()
        assert token_without(*Ability).lacks(template.purpose, template.algorithm)


@pytest.mark.parametrize("ability", [Ability.LOCKED_IN, Ability.USAGES_FIXED, Ability.RANDOM])
def test_a_token_that_keys_can_leave_serves_no_purpose(ability: Ability) -> None:
    for service in token_without(ability).purposes():
        assert (service.ok, service.algorithms, service.reason) == (False, (), f"no {ability.value} (CKR_X)")


@pytest.mark.parametrize(
    ("ability", "purpose", "algorithms", "reason"),
    [
        (Ability.ECDSA_P256, Purpose.CA, ("ec-p384", "rsa-3072", "rsa-4096"), "ec-p256: no ecdsa-p256 (CKR_X)"),
        (Ability.RSA_4096, Purpose.CA, ("ec-p256", "ec-p384", "rsa-3072"), "rsa-4096: no rsa-4096 (CKR_X)"),
        (Ability.RSA_PSS_SHA256, Purpose.CMS, ("ec-p256",), "rsa-3072, rsa-4096: no rsa-pss-sha256 (CKR_X)"),
        (Ability.RSA_KEYS, Purpose.OPEN_ORDER, (), "no rsa-keys (CKR_X)"),
        (Ability.AES_GCM, Purpose.SEAL_PAN, (), "no aes-gcm (CKR_X)"),
        (Ability.IMPORT, Purpose.PIN_BLOCK, (), "no import (CKR_X)"),
        (Ability.DES2_BLOCK, Purpose.PIN_BLOCK, ("aes-128", "aes-256", "des3"), "des2: no des2-block (CKR_X)"),
        (Ability.AES_BLOCK, Purpose.PIN_BLOCK, ("des2", "des3"), "aes-128, aes-256: no aes-block (CKR_X)"),
        (Ability.RETAIL_MAC, Purpose.RETAIL_MAC, (), "no retail-mac (CKR_X)"),
        (Ability.AES_CMAC, Purpose.MAC, (), "no aes-cmac (CKR_X)"),
    ],
)
def test_what_is_lacking_is_told_with_the_algorithms_that_need_it(
    ability: Ability, purpose: Purpose, algorithms: tuple[str, ...], reason: str
) -> None:
    service = token_without(ability).service(purpose)
    assert (service.algorithms, service.reason) == (algorithms, reason)


def test_one_sealing_suite_is_enough_and_the_strongest_comes_first() -> None:
    for lacking, suites in (
        ((), ("oaep-sha256", "oaep-sha1")),
        ((Ability.OAEP_SHA256,), ("oaep-sha1",)),
        ((Ability.OAEP_SHA1,), ("oaep-sha256",)),
        ((Ability.OAEP_SHA1, Ability.OAEP_SHA256), ()),
    ):
        found = token_without(*lacking)
        assert found.sealing_suites == suites
        assert [found.supports(suite) for suite in suites] == [True] * len(suites)
        service = found.service(Purpose.OPEN_ORDER)
        assert (service.suites, service.ok) == (suites, bool(suites))
    assert service.reason == "no oaep-sha256 (CKR_X); no oaep-sha1 (CKR_X)"
