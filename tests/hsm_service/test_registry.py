from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from hsm_service.errors import KeyExists
from hsm_service.registry import KeyState, RegisteredKey, Registry
from runtime.database import open_database

NOW = datetime(2026, 5, 1, 8, 30, tzinfo=UTC)


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Callable[[], Registry]]:
    with ExitStack() as stack:

        def open_again() -> Registry:
            registry = Registry(open_database(tmp_path / "keys.db"))
            stack.callback(registry.close)
            return registry

        yield open_again


def _reserve(registry: Registry, name: str = "shop", cka_id: bytes = b"\x01" * 16) -> RegisteredKey:
    return registry.reserve(name, template="merchant-signing", owner="M-1", token="merchants", cka_id=cka_id, now=NOW)


def test_a_key_is_pending_until_the_token_has_it(reopen: Callable[[], Registry]) -> None:
    registry = reopen()
    row = _reserve(registry)
    assert (row.version, row.state, row.public_key) == (1, KeyState.PENDING, None)
    assert registry.enable("shop", 1, b"spki").state is KeyState.ENABLED
    assert registry.find("shop") == registry.find("shop", 1)


def test_what_was_written_is_there_after_a_restart(reopen: Callable[[], Registry]) -> None:
    registry = reopen()
    _reserve(registry)
    registry.enable("shop", 1, b"spki")
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
        chain=(b"leaf", b"issuer"),
    )


def test_a_renewed_chain_replaces_the_old_one_whole(reopen: Callable[[], Registry]) -> None:
    registry = reopen()
    _reserve(registry)
    registry.attach("shop", 1, [b"leaf", b"issuer", b"brand"])
    registry.attach("shop", 1, [b"leaf 2"])
    found = reopen().find("shop")
    assert found is not None
    assert found.chain == (b"leaf 2",)


def test_a_name_is_taken_once(reopen: Callable[[], Registry]) -> None:
    registry = reopen()
    _reserve(registry)
    registry.enable("shop", 1, b"spki")
    with pytest.raises(KeyExists):
        _reserve(registry, cka_id=b"\x02" * 16)


def test_a_row_that_a_killed_process_left_is_taken_up_with_its_token_id(reopen: Callable[[], Registry]) -> None:
    _reserve(reopen())
    assert _reserve(reopen(), cka_id=b"\x02" * 16).cka_id == b"\x01" * 16


def test_a_row_that_was_left_is_not_given_to_another_owner(reopen: Callable[[], Registry]) -> None:
    registry = reopen()
    _reserve(registry)
    with pytest.raises(KeyExists):
        registry.reserve(
            "shop", template="merchant-signing", owner="M-2", token="merchants", cka_id=b"\x02" * 16, now=NOW
        )


def test_two_keys_never_share_a_token_object(reopen: Callable[[], Registry]) -> None:
    registry = reopen()
    _reserve(registry)
    with pytest.raises(IntegrityError):
        _reserve(registry, name="other")
    assert registry.find("other") is None


def test_the_newest_enabled_version_is_the_one_in_use(reopen: Callable[[], Registry], tmp_path: Path) -> None:
    registry = reopen()
    _reserve(registry)
    registry.enable("shop", 1, b"spki")
    with sqlite3.connect(tmp_path / "keys.db") as database:
        for version, state in ((2, "ENABLED"), (3, "PENDING")):
            database.execute(
                "INSERT INTO keys (name, version, token, cka_id, template, owner, state, created) "
                "SELECT name, ?, token, ?, template, owner, ?, created FROM keys WHERE version = 1",
                (version, bytes([version]), state),
            )
    again = reopen()
    assert [row.version for row in again.all()] == [1, 2, 3]
    newest, third = again.find("shop"), again.find("shop", 3)
    assert newest is not None
    assert newest.version == 2
    assert third is not None
    assert third.state is KeyState.PENDING


def test_an_unknown_key_is_none(reopen: Callable[[], Registry]) -> None:
    registry = reopen()
    assert registry.find("none") is None
    _reserve(registry)
    assert registry.find("shop", 7) is None
