"""The status of certificates over mutual TLS: what an answer says of suspension, release, lateness and denied keys."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ca.client import CaClient
from ca.status_store import Wanted
from runtime.client import http_client
from runtime.problems import Problem
from tests.ca.test_app import client, ra, url  # noqa: F401  # fixtures
from tests.ca.test_revocation import merchant
from tests.support.ca_world import CaWorld, tls_files


def test_a_story_tells_held_then_good_again_with_its_history(ra: CaClient, world: CaWorld) -> None:  # noqa: F811
    record, office = merchant(world), world.office
    held = ra.revoke(office.revocation(record.certificate, office.vetter, reason="certificateHold"))
    assert (held.state, held.crl_scope) == ("held", "full")
    assert held.due_at == office.now + timedelta(hours=24)
    story = ra.look_up(record.issuer, record.serial)
    assert story.status == "held"
    assert story.revocation is not None
    assert story.revocation.crl_number == held.crl_number

    released = ra.revoke(office.revocation(record.certificate, office.vetter, reason="removeFromCRL"))
    assert released.state == "released"
    story = ra.look_up(record.issuer, record.serial)
    assert story.status == "good"
    assert [(each.state, each.published_at is not None) for each in story.history] == [
        ("held", True),
        ("released", True),
    ]


def test_a_revoked_certificate_is_told_as_revoked(ra: CaClient, world: CaWorld) -> None:  # noqa: F811
    record = merchant(world)
    ra.revoke(world.office.revocation(record.certificate, world.office.vetter, reason="superseded"))
    assert ra.look_up(record.issuer, record.serial).status == "revoked"
    assert ra.to_publish() == ()
    with pytest.raises(Problem) as problem:
        ra.revoke(world.office.revocation(record.certificate, world.office.vetter, reason="removeFromCRL"))
    assert (problem.value.status, problem.value.clause) == (403, "CPS 4.9.15")


def test_what_waits_is_told_and_what_is_late(ra: CaClient, world: CaWorld) -> None:  # noqa: F811
    record = merchant(world)
    now = world.clock.now.replace(microsecond=0)
    wanted = Wanted(record.issuer, record.serial, "superseded", now, "officer-1", b"order", None, now)
    world.authority.store.status.apply(wanted, now)
    (late,) = ra.to_publish("overdue")
    assert (late.serial, late.urgency, late.published_at) == (record.serial, "overdue", None)
    assert ra.to_publish() == (late,)
    world.authority.maintain()
    assert ra.to_publish() == ()


def test_keys_are_denied_by_two_officers_and_listed_in_pages(ra: CaClient, world: CaWorld) -> None:  # noqa: F811
    office = world.office
    keys = [bytes(31) + bytes([number]) for number in range(3)]
    for key in keys:
        ra.deny([office.denial(key, office.vetter), office.denial(key, office.security)])
    first = ra.denylist(limit=2)
    assert [each.spki_sha256 for each in (*first, *ra.denylist(after=first[-1].spki_sha256))] == [
        key.hex() for key in keys
    ]
    with pytest.raises(Problem) as problem:
        ra.deny([office.denial(bytes(32), office.approver)])
    assert (problem.value.status, problem.value.clause) == (403, "CPS 4.9.12")


def test_strangers_learn_nothing(url: str, world: CaWorld, tmp_path: Path) -> None:  # noqa: F811
    with client(url, world, tmp_path, "merchant", "M-1") as stranger:
        for call in (stranger.to_publish, stranger.denylist):
            with pytest.raises(Problem) as problem:
                call()
            assert problem.value.status == 403
    with http_client(tls_files(world.pki, "service", "ra", tmp_path / "tls"), url, timeout=30) as raw:
        assert raw.get("/v1/revocations", params={"state": "all"}).status_code == 422
        assert raw.get("/v1/denylist", params={"after": "not hexadecimal"}).status_code == 422
        assert raw.get("/health/ready").json()["overdue"] == 0
