"""Two certificate authorities on one PostgreSQL, each a process of its own, issue and revoke at once."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import select

from ca import tables
from ca.errors import CaError, InProgressError
from ca.issuance import LEASE
from ca.status_store import RevocationRecord, Wanted
from cps.dossier import Dossier
from runtime.database import open_database, reading
from tests.support.ca_world import CaWorld, Clock
from tests.support.cps_cases import Office
from tests.support.databases import ca_database
from tests.support.many_cases import merchant_cases

EACH = 60
SHARED = 20  # cases that both are asked for
THREADS = 4
ISSUER = "merchant-ca"


def work(folder: Path, office: Office, database: str, cases: list[Dossier], revoke_every: int) -> None:
    """What one replica does: issue every case, revoke some of them, publish."""
    world = CaWorld(folder, office, database=database)

    def handle(item: tuple[int, Dossier]) -> None:
        number, case = item
        try:
            record = world.authority.issuance.issue(case)["signing"]
        except InProgressError:  # the other replica is at it: whoever asks again is told
            return
        if number % revoke_every == 0:
            now = world.clock.now
            order = Wanted(ISSUER, record.serial, "superseded", now, "officer-3", case.to_json(), None, None)
            assert isinstance(world.authority.store.status.apply(order, now), RevocationRecord)
            try:
                world.authority.publisher.publish(ISSUER)
            except CaError:  # overtaken by the other's list: it covers as much, or the next round does it
                world.authority.publisher.refresh()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(handle, enumerate(cases)))
    world.authority.maintain()
    world.close()


def replica(folder: Path, office: Office, database: str, cases: list[Dossier], revoke_every: int) -> int:
    """A replica in a process of its own; its number."""
    child = os.fork()
    if child == 0:
        try:
            work(folder, office, database, cases, revoke_every)
        except BaseException as error:  # the child must not go on as a second pytest
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(70)
        os._exit(0)
    return child


def test_two_replicas_issue_and_revoke_at_once_without_one_serial_or_crl_number_twice(
    tmp_path: Path, office: Office
) -> None:
    database = ca_database("postgresql", tmp_path)
    cases = merchant_cases(office, 2 * EACH + SHARED)
    shared, first, second = cases[:SHARED], cases[SHARED : SHARED + EACH], cases[SHARED + EACH :]

    children = [
        replica(tmp_path / "one", office, database, [*first[:20], *shared, *first[20:]], 2),
        replica(tmp_path / "two", office, database, [*second[:20], *shared, *second[20:]], 2),
    ]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]

    world = CaWorld(tmp_path / "three", office, database=database, clock=Clock(office.now + LEASE))
    engine = open_database(database)
    with reading(engine) as db:
        intents = db.execute(select(tables.intents.c.state, tables.intents.c.revision_digest)).all()
        numbers = db.execute(
            select(tables.crls.c.number).where(tables.crls.c.issuer == ISSUER).order_by(tables.crls.c.number)
        ).scalars()
        crl_numbers = list(numbers)
        revoked = set(
            db.execute(select(tables.revocations.c.serial).where(tables.revocations.c.issuer == ISSUER)).scalars()
        )
        epochs = db.execute(
            select(tables.status_changes.c.epoch).where(tables.status_changes.c.issuer == ISSUER)
        ).scalars()
        changes = sorted(epochs)
    engine.dispose()
    issued = [record for record in world.authority.store.iterate() if record.intent_id is not None]

    assert Counter(state for state, _ in intents) == {"issued": len(cases)}
    assert len({digest for _, digest in intents}) == len(cases) == len({record.serial for record in issued})
    assert len(crl_numbers) == len(set(crl_numbers)) > 2
    assert changes == list(range(1, len(revoked) + 1))
    assert len(revoked) >= EACH
    listed = {
        format(entry.serial_number, "x")
        for entry in x509.load_der_x509_crl((world.folder / "crls" / f"{ISSUER}.crl").read_bytes())
    }
    assert listed == revoked
    assert all(record.published for record in world.authority.store.status.revocations(ISSUER))
    # Asked again, now of a third replica, every case has the certificate that it got.
    assert {world.authority.issuance.issue(case)["signing"].serial for case in cases} == {
        record.serial for record in issued
    }
    world.close()


def test_a_replica_leaves_alone_what_another_works_on_and_finishes_what_it_left(
    tmp_path: Path, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = ca_database("postgresql", tmp_path)
    clock = Clock(office.now)
    (case,) = merchant_cases(office, 1)

    def die(*_arguments: object) -> bytes:
        raise KeyboardInterrupt

    one = CaWorld(tmp_path / "one", office, database=database, clock=clock)
    monkeypatch.setattr(one.keys, "sign_certificate", die)
    with pytest.raises(KeyboardInterrupt):
        one.authority.issuance.issue(case)
    one.close()
    two = CaWorld(tmp_path / "two", office, database=database, clock=clock)

    assert len(two.authority.store.unfinished()) == 1
    with pytest.raises(InProgressError):
        two.authority.issuance.issue(case)
    clock.forward(LEASE + timedelta(seconds=1))
    two.authority.maintain()

    assert two.authority.store.unfinished() == []
    assert two.authority.issuance.issue(case)["signing"].intent_id == 1
    two.close()
