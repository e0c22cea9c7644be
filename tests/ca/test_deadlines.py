"""What waits to be published, how near its deadline is, and that lateness is told: once in the log, for as long as it
lasts in the metrics."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from ca.deadlines import Deadlines
from ca.errors import ProfileError, StoreUnavailableError
from cps.model import load_pack
from statements.published import founding_only
from tests.ca.test_revocation import Away, merchant
from tests.cps.test_model import TEXT
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office
from tests.support.software_signing import SoftwareSigning


def gauge(state: str) -> float | None:
    return REGISTRY.get_sample_value("kwbp_ca_changes_to_publish", {"state": state})


def test_a_change_that_cannot_be_published_is_told_before_and_after_it_is_late(
    tmp_path: Path, office: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens: list[Away] = []

    def put(keys: SoftwareSigning) -> Any:
        tokens.append(Away(keys))
        return tokens[0]

    world = CaWorld(tmp_path, office, signer=put)
    record = merchant(world)
    tokens[0].away = True
    world.authority.revocation.apply(office.revocation(record.certificate, office.vetter))  # keyCompromise: 24 hours
    deadlines = Deadlines(world.authority.store.status, founding_only(), world.clock)
    status = world.authority.store.status

    def told() -> list[str]:
        deadlines.check()
        deadlines.check()
        return [line for line in capsys.readouterr().err.splitlines() if "publication-" in line]

    capsys.readouterr()
    assert [each.urgency for each in deadlines.check()] == ["waiting"]
    assert told() == []
    world.clock.forward(timedelta(hours=20))
    (warning,) = told()
    assert '"publication-near"' in warning
    assert '"level": "warning"' in warning
    assert (gauge("near"), gauge("overdue"), deadlines.overdue) == (1, 0, 0)
    assert status.overdue(world.clock.now) == []
    world.clock.forward(timedelta(hours=4))
    (error,) = told()
    assert '"publication-overdue"' in error
    assert '"level": "error"' in error
    assert (gauge("near"), gauge("overdue"), deadlines.overdue) == (0, 1, 1)
    assert [each.serial for each in status.overdue(world.clock.now)] == [record.serial]

    tokens[0].away = False
    world.authority.maintain()

    assert told() == []
    assert (gauge("overdue"), deadlines.overdue) == (0, 0)
    assert status.unpublished() == []
    world.close()


def test_a_deadline_ends_when_the_list_is_out_and_not_when_it_was_begun(
    tmp_path: Path, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = CaWorld(tmp_path, office)
    record = merchant(world)
    sign = world.keys.sign_crl

    def slowly(*arguments: Any) -> bytes:
        signed = sign(*arguments)
        world.clock.forward(timedelta(hours=25))  # keyCompromise has 24 hours
        return signed

    with monkeypatch.context() as patched:
        patched.setattr(world.keys, "sign_crl", slowly)
        world.authority.revocation.apply(office.revocation(record.certificate, office.vetter))

    (change,) = world.authority.store.status.history(record.issuer, record.serial)
    assert change.due_at is not None
    assert change.published_at == world.clock.now > change.due_at
    world.close()


def test_that_a_list_is_out_is_kept_later_if_the_database_was_away_then(
    tmp_path: Path, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = CaWorld(tmp_path, office)
    record = merchant(world)
    store = world.authority.store

    def away(*_arguments: object) -> None:
        raise StoreUnavailableError("away")

    with monkeypatch.context() as patched:
        patched.setattr(store.crls, "note_published", away)
        world.authority.revocation.apply(office.revocation(record.certificate, office.vetter))
    assert [each.serial for each in store.status.unpublished()] == [record.serial]
    world.clock.forward(timedelta(minutes=1))
    world.authority.maintain()

    (change,) = store.status.history(record.issuer, record.serial)
    assert change.published_at == world.clock.now
    world.close()


def test_every_change_is_due_as_soon_as_the_statement_publishes_any(tmp_path: Path, office: Office) -> None:
    """A reason that allows five days does not let a list be missing for longer than `revoke_publish`."""
    world = CaWorld(tmp_path, office)
    record = merchant(world)
    order = office.revocation(record.certificate, office.vetter, reason="superseded")
    world.authority.revocation.apply(order)
    (change,) = world.authority.store.status.history(record.issuer, record.serial)
    assert office.pack.revocation["superseded"].deadline > office.pack.clocks.revoke_publish
    assert change.due_at == change.at + office.pack.clocks.revoke_publish
    world.close()


def test_an_authority_whose_lists_are_too_far_apart_does_not_start(tmp_path: Path, office: Office) -> None:
    """Its profile signs a list a day; a statement that publishes within twelve hours is not kept by it."""
    strict = load_pack(TEXT.replace("revoke_publish: PT24H", "revoke_publish: PT12H"))
    world = CaWorld(tmp_path, Office(office.pki, strict), start=False)
    with pytest.raises(ProfileError, match="lists of brand are 1 day") as refused:
        world.authority.start()
    assert refused.value.clause == "CPS 4.9.8"
    world.close()
