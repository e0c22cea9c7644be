"""What a list says is read in one snapshot, in the order of serial numbers, and is as long as was stated."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from ca.crl import REMOVE_FROM_CRL, entry_der, shard
from ca.crl_kinds import DELTA, FULL
from ca.crl_store import CrlRecord, Listing, partition
from ca.errors import StoreUnavailableError
from ca.status_store import StatusOrder, StatusState, write_status
from ca.store import Store
from ca.tables import serials
from runtime.database import insert_new, open_database
from tests.support.databases import DATABASES, ca_database

ISSUER = "cardholder-ca"
NOW = datetime(2026, 3, 21, 12, 0, 0, tzinfo=UTC)
SERIALS = ("ff", "9", "1a", "100", "a", "12", "fedcba9876543210", "2", "101", "b")
ASCENDING = sorted(SERIALS, key=lambda serial: int(serial, 16))


@pytest.fixture(params=DATABASES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made = open_database(ca_database(request.param, tmp_path))
    yield made
    made.dispose()


@pytest.fixture
def store(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Store:
    """With entries of an authority, of which few are read together, and one of another."""
    monkeypatch.setattr("ca.crl_store._AT_ONCE", 3)
    store = Store(engine)
    for serial in SERIALS:
        change(engine, serial)
    change(engine, "77", issuer="merchant-ca")
    return store


def change(engine: Engine, serial: str, state: StatusState = "revoked", issuer: str = ISSUER) -> None:
    with engine.begin() as db:
        insert_new(db, serials, issuer=issuer, serial=serial, reserved_at=NOW)
        order = StatusOrder(
            issuer=issuer,
            serial=serial,
            state=state,
            reason="superseded",
            at=NOW,
            ordered_by="service:ca",
            due_at=NOW + timedelta(days=1),
        )
        write_status(db, order)


def content(listing: Listing) -> bytes:
    chunks = list(listing.chunks)
    whole = b"".join(chunks)
    assert len(whole) == listing.size
    assert len(chunks) == -(-listing.entries // 3)
    return whole


def entries(*wanted: str, reason: str = "superseded") -> bytes:
    return b"".join(entry_der(serial, NOW, reason) for serial in wanted)


def record(number: int, epoch: int, scope: str = FULL) -> CrlRecord:
    return CrlRecord(ISSUER, number, "00", NOW - timedelta(minutes=1), NOW + timedelta(days=1), b"", epoch, 0, scope)


def test_a_full_list_has_what_is_not_released_in_ascending_order(engine: Engine, store: Store) -> None:
    change(engine, "12", "released")
    with store.crls.full(ISSUER) as listing:
        assert content(listing) == entries(*(serial for serial in ASCENDING if serial != "12"))
    assert (listing.entries, listing.epoch) == (len(SERIALS) - 1, len(SERIALS) + 1)


def test_a_delta_has_what_changed_and_takes_off_what_was_released(engine: Engine, store: Store) -> None:
    change(engine, "12", "released")
    with store.crls.delta(ISSUER, len(SERIALS) - 1) as listing:
        assert content(listing) == entries("b") + entries("12", reason=REMOVE_FROM_CRL)


@pytest.mark.parametrize("partitions", [2, 16])
def test_partitions_have_together_what_the_full_list_has(store: Store, partitions: int) -> None:
    for number in range(partitions):
        with store.crls.partition(ISSUER, number, partitions) as listing:
            assert content(listing) == entries(*(each for each in ASCENDING if shard(each, partitions) == number))


def test_what_is_revoked_while_a_list_is_read_is_on_the_next(engine: Engine, store: Store) -> None:
    with store.crls.full(ISSUER) as listing:
        first = next(listing.chunks)
        change(engine, "ffff")
        assert first + b"".join(listing.chunks) == entries(*ASCENDING)
        assert listing.epoch == len(SERIALS)
    with store.crls.full(ISSUER) as listing:
        assert listing.epoch == len(SERIALS) + 1


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)  # a file does not go away while it is open
def test_a_database_that_goes_while_a_list_is_read_is_told_as_one_that_is_away(engine: Engine, store: Store) -> None:
    with pytest.raises(StoreUnavailableError), store.crls.full(ISSUER) as listing:
        next(listing.chunks)
        with engine.begin() as db:
            others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            db.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))
        list(listing.chunks)
    with store.crls.full(ISSUER) as listing:
        assert listing.entries == len(SERIALS)


def test_a_change_is_published_once_and_by_a_list_that_everybody_looks_at(store: Store) -> None:
    store.crls.note_published(record(1, len(SERIALS), partition(0)), NOW)
    assert len(store.status.unpublished()) == len(SERIALS) + 1
    store.crls.note_published(record(2, 3), NOW)
    store.crls.note_published(record(3, 4, DELTA), NOW + timedelta(hours=1))
    published = [change.published_at for serial in SERIALS for change in store.status.history(ISSUER, serial)]
    assert published == [NOW] * 3 + [NOW + timedelta(hours=1)] + [None] * (len(SERIALS) - 4)
    assert len(store.status.unpublished()) == len(SERIALS) - 4 + 1
