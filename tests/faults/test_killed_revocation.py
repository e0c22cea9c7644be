"""A registration authority that is killed once the CA has revoked finishes the order by itself, at its next start.

The process is forked over a copy of the installation, and SIGKILL ends it after the CA's answer, or after one of the
durable steps that follow. Nobody asks again: what the next start does on its clock brings the case to its end, with the
same history, journal and alarm as if nothing had happened.
"""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from audit import read
from cps.model import load_pack
from ra.orders import Orders
from ra.states import State
from tests.cps.test_model import TEXT
from tests.faults.test_killed_registration import DEEDS, LONGEST, Stage, Steps, _account, _certified
from tests.support.cps_cases import Office
from tests.support.forks import ended, forked
from tests.support.pki_factory import PkiFactory
from tests.support.ra_world import RaWorld

pytestmark = pytest.mark.alone


@dataclass
class StepsAfterTheCa(Steps):
    """Counts from the answer of the CA on, which is the first."""

    answered: bool = False

    def at(self, name: str) -> None:
        self.answered = self.answered or name == "revoke"
        if self.answered:
            super().at(name)


@pytest.fixture(scope="module")
def office() -> Office:
    return Office(PkiFactory(), load_pack(TEXT.replace("within: P14D", "within: PT2H")))


def _live(stage: Stage, folder: Path, steps: Steps) -> None:
    world = stage.open(folder)
    steps.around(world.engine.dialect, "do_commit", "commit")
    steps.around(world.record.journal, "_flush", "journal")
    steps.around(world.workflow.authority, "revoke", "revoke")
    DEEDS["revoke"].do(world, stage)


def _told(world: RaWorld, stage: Stage) -> dict[str, Any]:
    assert Orders(world.engine).under_way() == []
    assert [each.issuer for each in world.workflow.reviews.open()] == ["merchant-ca"]
    alarms = [each.entry["serial"] for each in read(world.journal) if each.entry["event"] == "ra.review-due"]
    assert alarms == [each.serial for each in world.store.certificates(stage.case)]
    return _account(world, stage)


def test_an_order_that_the_ca_took_is_finished_without_being_asked_again(office: Office, tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage", office)
    world = stage.open(stage.folder)
    _certified(world, stage)
    world.close()
    shutil.copytree(stage.folder, tmp_path / "undisturbed")
    world = stage.open(tmp_path / "undisturbed")
    DEEDS["revoke"].do(world, stage)
    expected = _told(world, stage)
    world.close()
    assert expected["state"] is State.REVOKED

    told = tmp_path / "deaths"
    stride = 1 if "EVERY_STEP" in os.environ else 5
    for fatal in range(1, LONGEST, stride):
        folder = tmp_path / f"death-{fatal}"
        shutil.copytree(stage.folder, folder)
        exit_code = ended(forked(lambda: _live(stage, folder, StepsAfterTheCa(fatal, told))))  # noqa: B023  # at once
        assert exit_code in {0, -signal.SIGKILL}
        world = stage.open(folder)
        world.workflow.sweep()  # as the start does, and the clock
        assert _told(world, stage) == expected, told.read_text("ascii").splitlines()[-1:]
        world.close()
        shutil.rmtree(folder)
        if exit_code == 0:
            break
    else:
        pytest.fail("it never lived")
    assert told.read_text("ascii").splitlines()[0] == "revoke"
