"""A registration authority that SIGKILL ends in the midst of EST: the same request goes on, in the same case.

The process is forked over a copy of the installation and ends after each thing that it writes or has signed.
The next one is asked with the same bytes, and tells what one that was never killed tells.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509

from ra.est import EstDesk, OneTimeCode
from ra.est_answer import Waiting
from tests.ra.test_est import next_request
from tests.support.cps_cases import Office, csr
from tests.support.forks import ended, forked
from tests.support.pki_factory import PkiFactory, p256
from tests.support.ra_world import OPERATOR, RaWorld, merchant_subject

pytestmark = pytest.mark.alone

LONGEST: Final = 30
"""More steps than either has."""


@dataclass
class Stage:
    """An installation with a prepared case and a certified one, and a request for each."""

    folder: Path
    office: Office
    prepared: OneTimeCode
    certificate: x509.Certificate
    old: str
    first: bytes
    next: bytes

    def enrol(self, desk: EstDesk) -> Any:
        return desk.enrol("merchant", self.prepared.application_id, self.prepared.code, self.first)

    def reenrol(self, desk: EstDesk) -> Any:
        return desk.reenrol("merchant", self.certificate, self.next)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder, office = tmp_path_factory.mktemp("stage"), Office(PkiFactory())
    world = RaWorld(folder, office)
    draft = world.workflow.open(OPERATOR, "merchant")
    subject = merchant_subject(merchant_id="M-first")
    prepared = EstDesk(world.workflow).prepare(OPERATOR, draft.id, subject, None)
    old = world.certified_merchant(merchant_id="M-next")
    certificate = x509.load_der_x509_certificate(world.store.certificates(old.id)[0].der)
    world.close()
    return Stage(folder, office, prepared, certificate, old.id, csr(p256()), next_request(certificate, p256()))


def _killed_at(fatal: int, world: RaWorld, desk: EstDesk) -> None:
    """Have the process end at the step of this number."""
    count = 0

    def at() -> None:
        nonlocal count
        count += 1
        if count == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def step(*arguments: Any, **named: Any) -> Any:
            result = real(*arguments, **named)
            at()
            return result

        setattr(owner, name, step)

    for owner, name in (
        (world.store, "open"),
        (world.store, "change"),
        (world.workflow.desk, "sign"),
        (desk._store, "bind"),
    ):
        around(owner, name)


@pytest.mark.parametrize("act", [Stage.enrol, Stage.reenrol])
def test_whatever_was_done_is_neither_lost_nor_done_again(
    stage: Stage, act: Callable[[Stage, EstDesk], Any], tmp_path: Path
) -> None:
    accounts, kills = set(), 0
    for fatal in range(1, LONGEST):
        folder = tmp_path / str(fatal)
        shutil.copytree(stage.folder, folder)

        def live(folder: Path = folder, fatal: int = fatal) -> None:
            world = RaWorld(folder, stage.office)
            desk = EstDesk(world.workflow)
            _killed_at(fatal, world, desk)
            act(stage, desk)

        exit_code = ended(forked(live))
        assert exit_code in {0, -signal.SIGKILL}
        kills += exit_code != 0
        accounts.add(_told_after(stage, act, folder))
        shutil.rmtree(folder)
        if exit_code == 0:
            break
    assert (exit_code, len(accounts)) == (0, 1)
    assert kills >= 2


def _told_after(stage: Stage, act: Callable[[Stage, EstDesk], Any], folder: Path) -> str:
    """What the next process tells, asked twice, and what is then on record of all cases."""
    world = RaWorld(folder, stage.office)
    try:
        desk = EstDesk(world.workflow)
        told = [act(stage, desk) for _ in range(2)]
        assert all(isinstance(each, Waiting) for each in told)
        return repr(
            sorted(
                (
                    each.subject_id or "",
                    each.replaces is not None,
                    each.state,
                    each.revision,
                    [(passed.action, passed.actor) for passed in world.store.transitions(each.id)],
                    [piece.kind for piece in world.store.evidence(each.id)],
                )
                for each in world.store.applications()
            )
        )
    finally:
        world.close()
