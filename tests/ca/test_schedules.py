"""The authority's schedules: what they do, and that a service with them publishes by itself."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from ca.app import create_app
from ca.schedules import ca_schedules, durable
from runtime.durable import Schedule
from tests.ca.test_revocation import Away, merchant, published
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office
from tests.support.software_signing import SoftwareSigning


def test_work_that_nobody_gave_has_no_schedule(world: CaWorld) -> None:
    assert [each.name for each in ca_schedules(world.authority)] == [
        "publication",
        "outbox",
        "deadlines",
        "suspensions",
    ]
    more = ca_schedules(world.authority, presign=int, self_audit=int)
    assert [each.name for each in more][-2:] == ["presign", "self-audit"]


def test_a_service_publishes_by_itself_what_its_token_could_not_sign_when_it_was_ordered(
    tmp_path: Path, office: Office
) -> None:
    tokens: list[Away] = []

    def put(keys: SoftwareSigning) -> Any:
        tokens.append(Away(keys))
        return tokens[0]

    world = CaWorld(tmp_path, office, signer=put)
    record = merchant(world)
    tokens[0].away = True
    world.authority.revocation.apply(office.revocation(record.certificate, office.vetter))
    tokens[0].away = False
    often = tuple(Schedule(each.name, "* * * * * *", each.work) for each in ca_schedules(world.authority))
    schedules = durable(world.authority, database=tmp_path / "db" / "ca.db", schedules=often)

    app = create_app(world.authority, schedules=schedules)

    async def serve() -> None:
        async with app.router.lifespan_context(app):
            deadline = time.monotonic() + 60
            while published(world).get_revoked_certificate_by_serial_number(record.certificate.serial_number) is None:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)

    asyncio.run(serve())

    assert world.authority.store.status.unpublished() == []
    world.close()
