"""Probe keys, the self-test of tokens in processes of their own, and keys that a token cannot serve."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import structlog.testing
from cryptography.hazmat.primitives.asymmetric import ec

from hsm_service import key_check, self_test
from hsm_service.capabilities import Ability
from hsm_service.kept_key import Key
from hsm_service.key_states import Change
from hsm_service.self_test import PREFIX, READY, SelfTest
from hsm_service.service import SignCommand
from hsm_service.supervised import SupervisedToken
from hsm_service.vault import SERVICE_TOKENS, Vault
from runtime.problems import Problem
from runtime.settings import HsmSettings, Settings
from tests.faults.faulty_module import wait_until
from tests.hsm_service.test_capabilities import token_without
from tests.support.signing_site import ACK, CEREMONY, World, refusal

OFTEN = Settings(hsm=HsmSettings(self_test_interval=0.05, key_check_interval=0.1))
STRANGER = ec.generate_private_key(ec.SECP256R1()).public_key()


@pytest.fixture(scope="module")
def running(founded: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """The vault as the service opens it."""
    with founded.copy(tmp_path_factory.mktemp("running")).vault(isolated=OFTEN) as vault:
        yield vault


def token(vault: Vault, label: str) -> SupervisedToken:
    found = vault._tokens[label]
    assert isinstance(found, SupervisedToken)
    return found


def found(vault: Vault, key: Callable[[str], Key], noted: list[Mapping[str, Any]] | None = None) -> str:
    """What one self-test of the token `ca` finds with this probe key."""
    noted = [] if noted is None else noted
    test = SelfTest("ca", token(vault, "ca"), key, noted.append, interval=600.0)
    try:
        wait_until(lambda: test.state != "not-tested-yet")
        return test.state
    finally:
        test.close()


def test_the_service_makes_each_token_a_probe_key_once_and_every_token_signs_with_it(running: Vault) -> None:
    wait_until(lambda: running.ready)
    assert running.token_states == dict.fromkeys(SERVICE_TOKENS, READY)
    probes = {key.name: key for key in running.list_keys(CEREMONY) if key.purpose == "probe"}
    assert {name: (key.token, key.algorithm, key.version) for name, key in probes.items()} == {
        f"probe-{label}": (label, "ec-p256", 1) for label in SERVICE_TOKENS
    }
    assert running.keys.probe_key("ca").row.version == 1


def test_its_signatures_are_not_recorded(running: Vault) -> None:
    wait_until(lambda: running.ready)
    uses = token(running, "standby").uses(running.keys.probe_key("standby").use()[1])
    size = running.journal.head.size
    wait_until(lambda: token(running, "standby").uses(running.keys.probe_key("standby").use()[1]) >= uses + 3)
    assert running.journal.head.size == size


def test_nobody_has_anything_signed_by_a_probe_key(running: Vault) -> None:
    wait_until(lambda: running.ready)
    commands = [
        SignCommand("raw", PREFIX + bytes(22), algorithm="ecdsa-sha256"),
        SignCommand("cms", PREFIX, ACK),
        SignCommand("request", PREFIX),
        SignCommand("certificate", PREFIX),
    ]
    for command in commands:
        for caller in (CEREMONY, "service:hsm"):
            with pytest.raises(Problem) as caught:
                running.sign(caller, "probe-ca", command)
            assert caught.value.type in {"key-misused", "caller-not-allowed"}


@pytest.mark.parametrize("caller", ["service:hsm", "service:operator", "merchant:M-1"])
def test_nobody_asks_for_a_probe_key(caller: str, running: Vault) -> None:
    refusal(lambda: running.generate_key(caller, "probe-mine", "probe"), 403, "caller-not-allowed")
    refusal(lambda: running.generate_key(CEREMONY, "probe-mine", "probe"), 409, "token-not-open")


def test_a_signature_of_another_key_is_found_and_recorded(running: Vault) -> None:
    noted: list[Mapping[str, Any]] = []

    def swapped(label: str) -> Key:
        key = running.keys.probe_key(label)
        assert key.signing is not None
        return replace(key, signing=replace(key.signing, public_key=STRANGER))

    assert found(running, swapped, noted) == "wrong-signature"
    assert noted == [{"event": "token-state", "token": "ca", "state": "wrong-signature"}]


def test_a_token_that_does_well_leaves_no_entry(running: Vault) -> None:
    noted: list[Mapping[str, Any]] = []
    assert found(running, running.keys.probe_key, noted) == READY
    assert noted == []


def test_without_its_probe_key_a_token_is_not_ready(world: World) -> None:
    with world.vault(isolated=OFTEN) as vault:
        wait_until(lambda: vault.ready)
        vault._custody.change(vault.keys.probe_key("ca"), Change.DISABLE)
        wait_until(lambda: not vault.ready)
        assert vault.token_states == {**dict.fromkeys(SERVICE_TOKENS, READY), "ca": "key-not-enabled"}


def test_a_key_is_not_made_in_a_token_that_cannot_serve_its_purpose(vault: Vault) -> None:
    gateway = vault._tokens["gateway"]
    gateway.__dict__["capabilities"] = token_without(Ability.RSA_PSS_SHA256, Ability.AES_GCM)
    problem = refusal(lambda: vault.generate_key(CEREMONY, "g-2", "gateway-signing"), 409, "token-lacks-abilities")
    assert problem.detail == "token gateway cannot serve cms: no rsa-pss-sha256 (CKR_X)"
    refusal(lambda: vault.generate_key(CEREMONY, "v-2", "gateway-vault"), 409, "token-lacks-abilities")


def test_keys_that_their_token_turns_out_not_to_serve_are_an_alarm_and_go_on(running: Vault) -> None:
    gateway = token(running, "gateway")
    before = gateway.capabilities
    gateway._capabilities = token_without(Ability.AES_GCM)
    try:
        with structlog.testing.capture_logs() as logs:
            running.check_keys()
        assert key_check.UNFIT.labels("gateway")._value.get() == 1  # gateway-vault
        assert "key is of a purpose that its token cannot serve" in {entry["event"] for entry in logs}
    finally:
        gateway._capabilities = before
    running.check_keys()
    assert key_check.UNFIT.labels("gateway")._value.get() == 0


def test_the_metric_follows(running: Vault) -> None:
    wait_until(lambda: running.ready)
    assert self_test.WELL.labels("merchants")._value.get() == 1
