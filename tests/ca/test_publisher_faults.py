"""Lists under bad conditions: a replica without ticks, an older database, a wrong clock, a full disk, a kill."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import delete, insert, select, update

import ca.publisher
from ca import tables
from ca.crl_kinds import DELTA, FULL
from ca.errors import TokenUnavailableError
from ca.hierarchy import Authority
from ca.repository import create_app
from ca.status_client import StatusCache
from runtime.client import http_client
from runtime.server import start
from tests.ca.test_publisher_scopes import ISSUER, change, latest, long_lists, reasons, shown
from tests.ca.test_revocation import merchant, published
from tests.support.ca_world import CaWorld, Clock
from tests.support.cps_cases import Office
from tests.support.databases import DATABASES, ca_database

__all__ = ["long_lists"]


@pytest.fixture(params=DATABASES)
def replicas(request: pytest.FixtureRequest, tmp_path: Path, office: Office) -> Iterator[tuple[CaWorld, CaWorld]]:
    """Two authorities on one database, each with a folder of its own."""
    database, clock = ca_database(request.param, tmp_path), Clock(office.now)
    made = tuple(CaWorld(tmp_path / name, office, database=database, clock=clock) for name in ("one", "two"))
    yield made[0], made[1]
    for each in made:
        each.close()


def test_a_replica_without_ticks_shows_and_believes_what_another_published(
    replicas: tuple[CaWorld, CaWorld], office: Office
) -> None:
    one, two = replicas
    record = merchant(one)
    newer = office.pki.root.crl(office.now, number=99).public_bytes(Encoding.DER)
    (one.folder / "crls" / "root.crl").write_bytes(newer)
    one.authority.maintain()
    one.authority.revocation.apply(office.revocation(record.certificate, office.vetter))
    assert published(two).get_revoked_certificate_by_serial_number(record.certificate.serial_number) is None

    two.authority.publisher.follow()

    assert published(two) == published(one)
    assert published(two, "root") == x509.load_der_x509_crl(newer)
    issuer = two.authority.hierarchy["merchant-ca"].certificate
    status = two.authority.publisher.trust().crls.status(record.certificate, issuer, two.clock())
    assert status is not None
    one.clock.forward(timedelta(hours=30))
    one.authority.maintain()
    one.clock.forward(timedelta(hours=20))
    ended = published(two).next_update_utc
    assert ended is not None
    assert ended < one.clock()
    two.authority.publisher.follow()
    assert published(two) == published(one)


def test_a_list_that_a_replica_publishes_while_this_one_looks_is_shown_all_the_same(
    replicas: tuple[CaWorld, CaWorld], office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = replicas
    record = merchant(one)
    files = two.authority.publisher._files
    adopt = files.adopt
    waiting = [record.certificate]

    def overtaken(authority: Authority) -> None:
        adopt(authority)
        if waiting and authority.name == "merchant-ca":
            one.authority.revocation.apply(office.revocation(waiting.pop(), office.vetter))

    monkeypatch.setattr(files, "adopt", overtaken)
    two.authority.publisher.refresh()

    assert not waiting
    assert published(two) == published(one)
    issuer = two.authority.hierarchy["merchant-ca"].certificate
    assert two.authority.publisher.trust().crls.status(record.certificate, issuer, two.clock()) is not None


def test_relying_parties_of_a_replica_are_not_told_of_lists_that_it_does_not_show(
    replicas: tuple[CaWorld, CaWorld], office: Office
) -> None:
    one, two = replicas
    record = merchant(one)
    two.authority.publisher.refresh()
    one.authority.revocation.apply(office.revocation(record.certificate, office.vetter))
    two.clock.forward(timedelta(hours=13))
    two.authority.publisher._publish_bci()  # at the very moment when the other's list is on record and not yet here
    hierarchy = two.authority.hierarchy
    with start(create_app(two.folder), tls=None) as url, http_client(None, url) as client:
        cache = StatusCache(url, hierarchy.anchors, hierarchy.intermediates, client=client, with_bci=True)
        issuer = hierarchy["merchant-ca"].certificate
        now = two.clock()
        assert cache.trust(now).crls.status(record.certificate, issuer, now) is None
        two.authority.publisher.follow()
        two.authority.publisher._publish_bci()
        assert cache.trust(now).crls.status(record.certificate, issuer, now) is not None


def test_lists_that_a_fast_clock_made_are_replaced_when_it_is_right_again(world: CaWorld) -> None:
    world.clock.forward(timedelta(days=300))
    world.authority.maintain()
    wrong = published(world)
    world.clock.now -= timedelta(days=300)
    world.authority.maintain()

    right = published(world)
    assert right.last_update_utc <= world.clock() < wrong.last_update_utc
    crl_numbers = [crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for crl in (wrong, right)]
    assert crl_numbers == sorted(set(crl_numbers))
    before = (world.folder / "bci.p7s").read_bytes()
    world.authority.maintain()
    assert published(world) == right
    assert (world.folder / "bci.p7s").read_bytes() == before


def test_a_delta_follows_when_the_process_ended_after_the_full_list(
    long_lists: CaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = long_lists
    for serial in (1, 2, 3):
        change(world, serial)
    sign, calls = world.keys.sign_crl, iter(range(2))

    def once(*arguments: Any, **more: Any) -> Any:
        if next(calls):
            raise KeyboardInterrupt
        return sign(*arguments, **more)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(world.keys, "sign_crl", once)
        world.authority.publisher.publish(ISSUER)
    full = latest(world)
    assert full.entries == 3
    assert world.authority.store.crls.latest(ISSUER, DELTA) is None
    world.authority.maintain()

    assert latest(world, DELTA).base_number == full.number == latest(world).number


def test_an_older_database_learns_from_the_delta_in_the_folder_what_was_revoked(long_lists: CaWorld) -> None:
    world = long_lists
    for serial in (1, 2, 3):
        change(world, serial)
    world.authority.publisher.publish(ISSUER)
    with world.engine.begin() as db:
        before = db.execute(select(tables.crls.c.number).where(tables.crls.c.issuer == ISSUER)).scalars().all()
    epoch = world.authority.store.status.epoch(ISSUER)
    change(world, 4)
    change(world, 2, "released", "certificateHold")
    newer = world.authority.publisher.publish(ISSUER)
    assert newer.scope == DELTA
    with world.engine.begin() as db:  # as it was before the last change
        for table in (tables.revocations, tables.status_changes, tables.serials):
            db.execute(delete(table).where(table.c.issuer == ISSUER, table.c.serial == "4"))
        db.execute(delete(tables.status_changes).where(tables.status_changes.c.epoch > epoch))
        db.execute(delete(tables.crls).where(tables.crls.c.issuer == ISSUER, tables.crls.c.number.not_in(before)))
        row = update(tables.issuers).where(tables.issuers.c.issuer == ISSUER)
        db.execute(row.values(crl_number=max(before), status_epoch=epoch))
    world.authority.publisher.load()
    world.authority.maintain()

    status = world.authority.store.status.revocation(ISSUER, "4")
    assert status is not None
    assert (status.state, status.reason) == ("revoked", "keyCompromise")
    assert reasons(shown(world, DELTA))[4] == "keyCompromise"
    assert latest(world, DELTA).number >= newer.number


def test_a_database_that_went_back_under_a_running_authority_does_not_take_lists_back(world: CaWorld) -> None:
    before = world.authority.store.crls.latest(ISSUER, FULL)
    assert before is not None
    change(world, 7)
    newer = world.authority.publisher.publish(ISSUER)
    with world.engine.begin() as db:  # such as a standby that lagged behind
        for table in (tables.revocations, tables.status_changes, tables.serials):
            db.execute(delete(table).where(table.c.issuer == ISSUER, table.c.serial == "7"))
        db.execute(delete(tables.crls).where(tables.crls.c.issuer == ISSUER, tables.crls.c.number > before.number))
        row = update(tables.issuers).where(tables.issuers.c.issuer == ISSUER)
        db.execute(row.values(crl_number=before.number, status_epoch=0))
    world.authority.publisher.follow()
    assert 7 in reasons(shown(world))
    world.authority.maintain()

    assert 7 in reasons(shown(world))
    assert latest(world).number >= newer.number
    assert world.authority.store.status.revocation(ISSUER, "7") is not None


def test_a_broken_list_in_the_folder_keeps_no_other_from_being_published(world: CaWorld) -> None:
    (world.folder / "crls" / "root.crl").write_bytes(b"half a list")
    change(world, 8)
    world.authority.maintain()
    assert 8 in reasons(shown(world))


def test_a_broken_list_of_an_authority_in_service_is_put_right_at_the_start(tmp_path: Path, office: Office) -> None:
    world = CaWorld(tmp_path, office)
    (world.folder / "crls" / f"{ISSUER}.crl").write_bytes(b"half a list")
    world.close()
    world = CaWorld(tmp_path, office)
    assert reasons(shown(world)) == {}
    world.close()


def test_a_full_disk_keeps_a_revocation_on_record_and_the_authority_up(
    world: CaWorld, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = merchant(world)

    def full(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(ca.publisher, "write_tbs", full)
        changed = world.authority.revocation.apply(office.revocation(record.certificate, office.vetter))
        world.authority.maintain()
    assert (changed.record.state, changed.crl) == ("revoked", None)
    world.authority.maintain()
    assert published(world).get_revoked_certificate_by_serial_number(record.certificate.serial_number) is not None


def test_a_draft_and_parts_that_a_kill_left_are_removed(tmp_path: Path, office: Office) -> None:
    world = CaWorld(tmp_path, office)
    crls = world.folder / "crls"
    draft = crls / f".{ISSUER}.17.new"
    draft.write_bytes(b"half a list")
    with world.engine.begin() as db:
        db.execute(insert(tables.crl_parts).values(issuer=ISSUER, number=17, part=0, der=b"half a list"))
    world.close()
    world = CaWorld(tmp_path, office)
    assert not draft.exists()
    with world.engine.begin() as db:
        assert db.execute(select(tables.crl_parts)).all() == []
    world.close()


def test_what_cannot_be_signed_now_is_signed_with_the_next_tick(
    world: CaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_arguments: Any, **_more: Any) -> bytes:
        raise TokenUnavailableError("away")

    change(world, 9)
    with monkeypatch.context() as patched:
        patched.setattr(world.keys, "sign_crl", away)
        world.authority.publisher.refresh()
    assert 9 not in reasons(shown(world))
    world.authority.publisher.refresh()
    assert 9 in reasons(shown(world))
