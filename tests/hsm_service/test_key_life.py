"""Keys over their life in a vault with real tokens: rotated, limited, taken out, destroyed, checked, interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import prometheus_client
import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from hsm_service.key_life import SHORTEST_WAIT, WAIT
from hsm_service.key_states import KeyState
from hsm_service.operation_info import ApprovalNeeded
from hsm_service.registry import Registry
from hsm_service.request import compose_request
from hsm_service.service import KeyInfo
from hsm_service.templates import Operation
from hsm_service.tokens import Token
from hsm_service.vault import Vault
from pki.csr import parse_csr
from pki.keys import spki_der
from pki.names import name
from pki.roles import Role
from runtime.secrets import Secret
from tests.support.pki_factory import NOW
from tests.support.signing_site import (
    ACK,
    CA,
    CEREMONY,
    GATEWAY,
    OPERATOR,
    SHOP,
    World,
    acknowledgement,
    authority_chain,
    crl,
    der,
    merchant_chain,
    public_key,
    refusal,
    tbs,
)

DAY = timedelta(days=1)
KEY = "shop-ec"


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(world: World, clock: Clock) -> Iterator[Vault]:
    with world.vault(clock=clock) as vault:
        yield vault


def _certify(world: World, vault: Vault, version: int) -> None:
    spki = vault.describe_key(CEREMONY, KEY, version).public_key
    vault.attach_certificate(CEREMONY, KEY, der(*merchant_chain(world.pki, "M-1", public_key(spki))))


def _sign(vault: Vault, version: int | None = None) -> int:
    return vault.sign_cms(SHOP, KEY, ACK, acknowledgement(), version).version


def _rotate(vault: Vault, **options: Any) -> KeyInfo:
    return vault.life.rotate(CEREMONY, KEY, **options)


def _unusable(reason: str) -> float:
    return prometheus_client.REGISTRY.get_sample_value("kwbp_hsm_keys_unusable", {"reason": reason}) or 0.0


def _token(vault: Vault) -> Token:
    return vault._tokens["merchants"]


# -- rotation ----------------------------------------------------------------------------------------------------------


def test_a_rotated_key_signs_from_its_time_on_without_restart(world: World, opened: Vault, clock: Clock) -> None:
    made = _rotate(opened, activates_at=NOW + DAY)
    assert (made.version, made.state, made.in_use, made.owner) == (2, "ENABLED", False, "M-1")
    _certify(world, opened, 2)
    assert _sign(opened) == 1
    refusal(lambda: _sign(opened, 2), 409, "key-not-in-use")
    clock.now = NOW + DAY
    assert _sign(opened) == 2
    assert refusal(lambda: _sign(opened, 1), 409, "key-not-in-use").detail == (
        "version 1 of key shop-ec was replaced; it does not do this"
    )
    old, new = (opened.describe_key(SHOP, KEY, version) for version in (1, 2))
    assert (old.in_use, old.state, old.retires_at) == (False, "ENABLED", new.activates_at)
    assert new.in_use


def test_the_next_version_waits_for_its_certificate(world: World, opened: Vault, clock: Clock) -> None:
    _rotate(opened)
    clock.now = NOW + DAY
    assert _sign(opened) == 1
    _certify(world, opened, 2)
    assert _sign(opened) == 2


def test_the_next_version_signs_its_own_request_before_it_is_in_use(opened: Vault) -> None:
    made = _rotate(opened)
    info = compose_request(name(cn="M-1", o="Bookshop").public_bytes(), ["urn:kwbp:merchant:M-1"], made)
    request = parse_csr(opened.sign_request(CEREMONY, KEY, info, 2).signed)
    assert spki_der(request.public_key()) == made.public_key


def test_no_older_version_steps_in_for_one_that_was_taken_out(world: World, opened: Vault) -> None:
    _rotate(opened)
    _certify(world, opened, 2)
    opened.life.disable(CEREMONY, KEY, 2)
    refusal(lambda: _sign(opened), 409, "key-not-enabled")
    refusal(lambda: _sign(opened, 1), 409, "key-not-in-use")
    opened.life.enable(CEREMONY, KEY, 2)
    assert _sign(opened) == 2


def test_a_version_taken_out_before_it_began_never_begins_by_itself(world: World, opened: Vault, clock: Clock) -> None:
    _rotate(opened, activates_at=NOW + DAY)
    _certify(world, opened, 2)
    opened.life.disable(CEREMONY, KEY, 2)
    clock.now = NOW + 2 * DAY
    assert _sign(opened) == 1


def test_a_rotation_that_a_killed_process_left_is_taken_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for method, before in ((Token, "generate_ec"), (Registry, "made")):
        with world.vault() as vault, monkeypatch.context() as patch:
            patch.setattr(method, before, _killed)
            with pytest.raises(KeyboardInterrupt):
                _rotate(vault)
    with world.vault() as vault:
        assert _sign(vault) == 1
        assert vault.describe_key(CEREMONY, KEY, 2).state == "PENDING"
        made = _rotate(vault)
        assert (made.version, made.state) == (2, "ENABLED")
        assert len([ref for ref in _token(vault).keys() if ref.label == KEY]) == 2  # noqa: SIM118  # a method


def _killed(*_arguments: object, **_options: object) -> None:
    raise KeyboardInterrupt


def test_a_zone_key_is_rotated_from_components_at_its_time(opened: Vault, clock: Clock) -> None:
    def mac() -> bytes:
        with opened.lending.operation(GATEWAY, "mac", {"zone-mac": Operation.MAC}, input_sha256=None) as running:
            lent = running.keys["zone-mac"]
            return lent.token.aes_cmac(lent.ref, b"message")

    def expected(value: bytes) -> bytes:
        reference = CMAC(AES(value))
        reference.update(b"message")
        return reference.finalize()

    before = mac()
    first, second = bytes(range(16)), bytes(range(50, 66))
    components = (Secret(first), Secret(second))
    made = opened.life.rotate_zone_key(CEREMONY, "zone-mac", components, activates_at=NOW + DAY)
    assert (made.version, mac()) == (2, before)
    clock.now += DAY
    assert mac() == expected(bytes(a ^ b for a, b in zip(first, second, strict=True)))
    refusal(lambda: opened.life.rotate_zone_key(OPERATOR, "zone-mac", components), 403, "caller-not-allowed")
    refusal(lambda: opened.life.rotate_zone_key(CEREMONY, KEY, components), 409, "key-is-generated")


def test_a_retired_authority_key_lists_what_it_certified_and_certifies_nothing(world: World, opened: Vault) -> None:
    ca = "merchant-ca-ec"
    list_, certificate = crl(opened, 1, key=ca), tbs(opened, key=ca)
    spki = opened.life.rotate(CEREMONY, ca).public_key
    chain = authority_chain(world.pki, ca, Role.MERCHANT_CA, public_key(spki))
    opened.attach_certificate(CEREMONY, ca, der(*chain))
    refusal(lambda: opened.sign_crl(CA, ca, list_), 422, "authority-key-mismatch")
    assert opened.sign_crl(CA, ca, list_, 1).version == 1
    refusal(lambda: opened.sign_certificate(CEREMONY, ca, certificate, 1), 409, "key-not-in-use")
    opened.life.disable(CEREMONY, ca, 1)
    refusal(lambda: opened.sign_crl(CA, ca, list_, 1), 409, "key-not-enabled")


def test_what_a_caller_may_not_do_to_a_key_is_refused_and_recorded(world: World, opened: Vault) -> None:
    refusal(lambda: opened.life.rotate("merchant:M-2", KEY), 403, "caller-not-allowed")
    assert world.last_entry()["reason"] == "caller-not-allowed"
    refusal(lambda: opened.life.rotate("anonymous", KEY), 401, "client-certificate-required")
    refusal(lambda: opened.life.rotate(CEREMONY, "zone-pin"), 409, "key-is-imported")
    refusal(lambda: opened.life.disable(CEREMONY, KEY, 9), 404, "key-not-found")


def test_an_operator_rotates_with_officers_approvals_only_and_disables_at_once(opened: Vault) -> None:
    with pytest.raises(ApprovalNeeded):
        opened.life.rotate(OPERATOR, KEY)
    assert [info.version for info in opened.list_versions(OPERATOR, KEY)] == [1]
    assert opened.life.disable(OPERATOR, KEY, 1).state == "DISABLED"
    with pytest.raises(ApprovalNeeded):
        opened.life.enable(OPERATOR, KEY, 1)


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_used_up_key_stays_so_after_a_restart(world: World, clock: Clock) -> None:
    with world.vault(clock=clock) as vault:
        used = vault.describe_key(SHOP, KEY).uses
        vault.life.limit(CEREMONY, KEY, 1, {"uses": used + 2})
        _sign(vault)
        _sign(vault)
        refusal(lambda: _sign(vault), 403, "key-used-up")
    with world.vault(clock=clock) as vault:
        refusal(lambda: _sign(vault), 403, "key-used-up")
        info = vault.describe_key(SHOP, KEY)
        assert (info.uses, info.limits) == (used + 2, {"uses": used + 2})


def test_a_rate_is_kept_and_says_when_to_come_again(opened: Vault, clock: Clock) -> None:
    opened.life.limit(CEREMONY, KEY, 1, {"rate": 0.25, "burst": 2})
    _sign(opened)
    _sign(opened)
    assert refusal(lambda: _sign(opened), 429, "key-rate").headers == {"Retry-After": "4"}
    clock.now += timedelta(seconds=4)
    _sign(opened)


def test_a_key_signs_within_its_validity(opened: Vault, clock: Clock) -> None:
    opened.life.limit(CEREMONY, KEY, 1, {"not_before": NOW + DAY, "not_after": NOW + 2 * DAY})
    refusal(lambda: _sign(opened), 403, "key-not-yet-valid")
    clock.now = NOW + DAY
    _sign(opened)
    clock.now = NOW + 3 * DAY
    refusal(lambda: _sign(opened), 403, "key-expired")


def test_a_key_signs_no_longer_than_its_certificate(opened: Vault, clock: Clock) -> None:
    certificate = opened.key(KEY).pair().certificate
    clock.now = certificate.not_valid_after_utc + timedelta(seconds=1)
    refusal(lambda: _sign(opened), 403, "certificate-expired")


def test_what_is_no_limit_is_refused(opened: Vault) -> None:
    refusal(lambda: opened.life.limit(CEREMONY, KEY, 1, {"speed": 1}), 422, "bad-limits")


# -- destruction -------------------------------------------------------------------------------------------------------


def _schedule(vault: Vault, **options: Any) -> KeyInfo:
    vault.life.disable(CEREMONY, KEY, 1)
    return vault.life.destroy(CEREMONY, KEY, 1, **options)


def test_a_key_is_destroyed_when_its_time_has_come_and_its_row_stays(world: World, opened: Vault, clock: Clock) -> None:
    chain = opened.describe_key(SHOP, KEY).certificate_chain
    info = _schedule(opened)
    assert (info.state, info.destroy_at) == ("DESTROY_SCHEDULED", (NOW + WAIT).isoformat())
    clock.now = NOW + WAIT - timedelta(seconds=1)
    opened.check_keys()
    assert _token(opened).find(label=KEY) is not None
    clock.now = NOW + WAIT
    opened.check_keys()
    assert _token(opened).find(label=KEY) is None
    gone = opened.describe_key(SHOP, KEY, 1)
    assert (gone.state, gone.certificate_chain) == ("DESTROYED", chain)
    last = world.journal()[-2]
    assert (last["event"], last["operation"], last["key"]) == ("intent", "destroy", f"{KEY}/1")
    for act in (opened.life.enable, opened.life.keep, opened.life.disable, opened.life.destroy):
        refusal(lambda act=act: act(CEREMONY, KEY, 1), 409, "key-state")  # type: ignore[misc]
    assert _rotate(opened).version == 2


def test_a_scheduled_key_can_be_kept(opened: Vault, clock: Clock) -> None:
    _schedule(opened, at=NOW + SHORTEST_WAIT)
    opened.life.keep(CEREMONY, KEY, 1)
    clock.now = NOW + 2 * WAIT
    opened.check_keys()
    clock.now = NOW
    opened.life.enable(CEREMONY, KEY, 1)
    assert _sign(opened) == 1


def test_a_key_in_use_is_not_destroyed_nor_one_at_once(opened: Vault) -> None:
    refusal(lambda: opened.life.destroy(CEREMONY, KEY, 1), 409, "key-state")
    refusal(lambda: _schedule(opened, at=NOW + SHORTEST_WAIT - timedelta(seconds=1)), 422, "too-soon")


def test_a_destruction_that_a_killed_process_began_is_finished_at_the_next_start(
    world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.vault(clock=clock) as vault:
        _schedule(vault)
        clock.now = NOW + WAIT
        with monkeypatch.context() as patch:
            patch.setattr(Token, "destroy", _killed)
            with pytest.raises(KeyboardInterrupt):
                vault.check_keys()
        assert _token(vault).find(label=KEY) is not None
    with world.vault(clock=clock) as vault:
        assert vault.describe_key(SHOP, KEY, 1).state == KeyState.DESTROYED
        assert _token(vault).find(label=KEY) is None


# -- the check on a clock ----------------------------------------------------------------------------------------------


def test_a_key_that_is_gone_serves_nobody_until_it_is_back(opened: Vault) -> None:
    ref = _token(opened).find(label=KEY)
    assert ref is not None
    keys = opened._custody
    seen = keys._tokens["merchants"]
    try:
        keys._tokens = {**keys._tokens, "merchants": _Forgetful(seen, ref.cka_id)}  # type: ignore[dict-item]
        opened.check_keys()
        assert opened.describe_key(SHOP, KEY).unusable == "the token does not hold it"
        assert _unusable("missing") == 1
        refusal(lambda: _sign(opened), 503, "key-not-usable")
    finally:
        keys._tokens = {**keys._tokens, "merchants": seen}
    opened.check_keys()
    assert _unusable("missing") == 0
    assert _sign(opened) == 1


class _Forgetful:
    """A token that does not list one of its keys."""

    def __init__(self, token: Token, cka_id: bytes) -> None:
        self._token = token
        self._cka_id = cka_id

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._token, attribute)

    def keys(self) -> list[Any]:
        return [ref for ref in self._token.keys() if ref.cka_id != self._cka_id]  # noqa: SIM118  # a method


def test_a_key_that_nobody_registered_is_an_alarm(opened: Vault) -> None:
    ref, _public = _token(opened).generate_ec("stranger")
    opened.check_keys()
    assert _unusable("unknown") == 1
    _token(opened).destroy(ref)
    opened.check_keys()
    assert _unusable("unknown") == 0
