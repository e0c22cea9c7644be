from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from hsm_service.errors import KeyExists
from hsm_service.key_states import KeyState
from hsm_service.key_versions import RegisteredKey
from hsm_service.limits import Limits
from hsm_service.registry import Registry, SchemaError
from runtime.database import open_database

NOW = datetime(2026, 5, 1, 8, 30, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    with ExitStack() as stack:

        def open_again(clock: Callable[[], datetime] = lambda: NOW) -> Registry:
            registry = Registry(open_database(tmp_path / "keys.db"), clock=clock)
            stack.callback(registry.close)
            return registry

        yield open_again


def _reserve(registry: Registry, name: str = "shop", cka_id: bytes = b"\x01" * 16) -> RegisteredKey:
    return registry.reserve(name, template="merchant-signing", owner="M-1", token="merchants", cka_id=cka_id, now=NOW)


def test_a_key_is_pending_until_the_token_has_it(reopen: Callable[..., Registry]) -> None:
    registry = reopen()
    row = _reserve(registry)
    assert (row.version, row.state, row.public_key) == (1, KeyState.PENDING, None)
    assert registry.made("shop", 1, b"spki").state is KeyState.ENABLED
    assert registry.find("shop") == registry.find("shop", 1)


def test_what_was_written_is_there_after_a_restart(reopen: Callable[..., Registry]) -> None:
    registry = reopen()
    _reserve(registry)
    registry.made("shop", 1, b"spki")
    registry.attach("shop", 1, [b"leaf", b"issuer"])
    assert reopen().all() == registry.all()
    assert reopen().find("shop") == RegisteredKey(
        name="shop",
        version=1,
        token="merchants",
        cka_id=b"\x01" * 16,
        template="merchant-signing",
        owner="M-1",
        state=KeyState.ENABLED,
        public_key=b"spki",
        created=NOW,
        activates_at=NOW,
        chain=(b"leaf", b"issuer"),
    )


def test_a_renewed_chain_replaces_the_old_one_whole(reopen: Callable[..., Registry]) -> None:
    registry = reopen()
    _reserve(registry)
    registry.attach("shop", 1, [b"leaf", b"issuer", b"brand"])
    registry.attach("shop", 1, [b"leaf 2"])
    found = reopen().find("shop")
    assert found is not None
    assert found.chain == (b"leaf 2",)


def test_a_name_is_taken_once(reopen: Callable[..., Registry]) -> None:
    registry = reopen()
    _reserve(registry)
    registry.made("shop", 1, b"spki")
    with pytest.raises(KeyExists):
        _reserve(registry, cka_id=b"\x02" * 16)


def test_a_row_that_a_killed_process_left_is_taken_up_with_its_token_id(reopen: Callable[..., Registry]) -> None:
    _reserve(reopen())
    assert _reserve(reopen(), cka_id=b"\x02" * 16).cka_id == b"\x01" * 16


def test_a_row_that_was_left_is_not_given_to_another_owner(reopen: Callable[..., Registry]) -> None:
    registry = reopen()
    _reserve(registry)
    with pytest.raises(KeyExists):
        registry.reserve(
            "shop", template="merchant-signing", owner="M-2", token="merchants", cka_id=b"\x02" * 16, now=NOW
        )


def test_two_keys_never_share_a_token_object(reopen: Callable[..., Registry]) -> None:
    registry = reopen()
    _reserve(registry)
    with pytest.raises(IntegrityError):
        _reserve(registry, name="other")
    assert registry.find("other") is None


def test_the_next_version_is_in_use_from_its_time_on_once_it_has_its_certificate(
    reopen: Callable[..., Registry],
) -> None:
    registry = reopen()
    _reserve(registry)
    registry.made("shop", 1, b"spki")
    row = registry.reserve_next("shop", token="merchants", cka_id=b"\x02" * 16, now=NOW, activates_at=LATER)
    assert (row.version, row.template, row.owner, row.state) == (2, "merchant-signing", "M-1", KeyState.PENDING)
    registry.made("shop", 2, b"spki 2")
    for clock, certified, in_use in ((NOW, False, 1), (LATER, False, 1), (LATER, True, 2), (NOW, True, 1)):
        if certified:
            registry.attach("shop", 2, [b"leaf"])
        found = reopen(clock=lambda now=clock: now).find("shop")  # type: ignore[misc]
        assert found is not None
        assert found.version == in_use


def test_a_version_that_waited_for_its_certificate_begins_when_it_comes(reopen: Callable[..., Registry]) -> None:
    registry = reopen(clock=lambda: LATER)
    _reserve(registry)
    registry.made("shop", 1, b"spki")
    registry.reserve_next("shop", token="merchants", cka_id=b"\x02" * 16, now=NOW, activates_at=NOW)
    registry.made("shop", 2, b"spki 2")
    registry.attach("shop", 2, [b"leaf"])
    rows = {row.version: row for row in reopen().versions("shop")}
    assert (rows[2].activates_at, rows[1].retires_at) == (LATER, LATER)


def test_a_rotation_that_a_killed_process_left_is_taken_up(reopen: Callable[..., Registry]) -> None:
    registry = reopen()
    _reserve(registry)
    registry.made("shop", 1, b"spki")
    registry.reserve_next("shop", token="merchants", cka_id=b"\x02" * 16, now=NOW, activates_at=NOW)
    again = reopen().reserve_next("shop", token="merchants", cka_id=b"\x03" * 16, now=NOW, activates_at=LATER)
    assert (again.version, again.cka_id, again.activates_at) == (2, b"\x02" * 16, LATER)


def test_limits_and_replicas_are_there_after_a_restart(reopen: Callable[..., Registry]) -> None:
    registry = reopen()
    _reserve(registry)
    registry.made("shop", 1, b"spki")
    limits = Limits(uses=7, rate=None, not_after=LATER)
    registry.limit("shop", 1, limits)
    registry.add_replica("shop", 1, "standby")
    found = reopen().find("shop")
    assert found is not None
    assert (found.limits, found.limits.model_fields_set) == (limits, {"uses", "rate", "not_after"})
    assert found.replicas == ("standby",)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE key_registry_schema SET version = 1",
        "UPDATE key_registry_schema SET version = 99",
        "DELETE FROM key_registry_schema",
        "DROP TABLE key_registry_schema",
    ],
)
def test_a_database_of_another_schema_is_refused(reopen: Callable[..., Registry], tmp_path: Path, change: str) -> None:
    reopen().close()
    with sqlite3.connect(tmp_path / "keys.db") as database:
        database.execute(change)
    with pytest.raises(SchemaError, match="schema version"):
        reopen()


def test_an_unknown_key_is_none(reopen: Callable[..., Registry]) -> None:
    registry = reopen()
    assert registry.find("none") is None
    _reserve(registry)
    assert registry.find("shop", 7) is None
