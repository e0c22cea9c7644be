"""`kwbp ra notices`: what was not delivered is listed, and delivered after all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from typer.testing import CliRunner

from cli import output, ra_notices
from pki.oids import CT_NOTICE
from ra.app import create_app
from ra.client import NoticeState, RaClient
from ra.notices.service import Notices
from runtime.identity import Caller
from runtime.language import Language
from runtime.notice_settings import NoticesSettings
from tests.support.cps_cases import Office
from tests.support.pki_factory import PkiFactory
from tests.support.ra_world import InProcess, RaWorld, as_caller


class InProcessRa(RaClient):
    """The RA's own client on the RA's own application, as the operator's console, without a socket between."""

    def __init__(self, world: RaWorld, notices: Notices) -> None:
        app = as_caller(create_app(world.workflow, notices=notices), Caller("service", "operator"))
        self._http = httpx.Client(transport=InProcess(app), base_url="http://ra")


def test_it_is_listed_and_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = RaWorld(tmp_path, Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0))))
    blocked = tmp_path / "notices"
    blocked.write_bytes(b"a file where a folder should be")
    people = {"recipients": [{"role": "auditor", "address": "audit@kwbp.example"}]}
    notices = Notices(
        world.engine,
        NoticesSettings.model_validate(people),
        spool=blocked,
        statement=lambda: world.workflow.pack,
        sign=lambda content: world.office.ra.sign(CT_NOTICE, content, signing_time=world.now),
        clock=world.clock,
    )
    for _ in range(notices.outbox.rules.delivery.attempts):
        notices.work()
        world.clock.forward(timedelta(days=1))
    client = InProcessRa(world, notices)

    @contextmanager
    def in_process(*_given: object) -> Iterator[RaClient]:
        yield client

    monkeypatch.setattr(ra_notices.enrolment, "ra", in_process)
    monkeypatch.setattr(ra_notices, "existing", lambda: SimpleNamespace(tls=lambda _name: None))
    monkeypatch.setattr(output, "language", lambda: Language.FA)
    monkeypatch.setattr(output, "json_wanted", lambda: False)
    run = CliRunner()
    listed = run.invoke(ra_notices.app, [], terminal_width=200)
    assert listed.exit_code == 0, listed.output
    [notice] = client.notices()
    assert notice.event == "statement_published"
    assert run.invoke(ra_notices.app, ["retry", notice.id]).exit_code == 0
    assert client.notices() == ()
    [waiting] = client.notices(states=[NoticeState.WAITING])
    assert waiting.id == notice.id
    assert run.invoke(ra_notices.app, ["retry"]).exit_code == 0
    blocked.unlink()
    assert notices.work() == 1
    opened = client.open("merchant", contact="shop@example.ir", language=Language.FA)
    assert json.loads(opened.to_json())["state"] == "DRAFT"
    client.close()
    world.close()
