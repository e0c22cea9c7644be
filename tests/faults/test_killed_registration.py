"""A registration authority that is killed at any step of an act has done it once, or not at all.

For each act the process is forked again and again over a copy of the same installation, and SIGKILL ends it after its
first durable step, its second, and so on until it lives: each commit of its database, each flush of its journal, each
call of the CA (whose own steps `test_killed_issuance` kills at); of acts other than the one that issues, every
third step, unless EVERY_STEP is set. Then another one starts, finishes what was left, and whoever was not answered does
the act again. At the end the case, its history, the journal and the CA tell what an RA that was never killed tells.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from sqlalchemy import select

from audit import read
from ca import tables as ca_tables
from cps.model import load_pack
from ra.errors import ConflictError, RefusedError, WrongStateError
from ra.states import State
from ra.submission import Submission
from runtime.database import reading
from tests.cps.test_model import TEXT
from tests.support.ca_world import CaWorld, Clock
from tests.support.cps_cases import DAY, Office, csr
from tests.support.forks import ended, forked
from tests.support.pki_factory import Key, PkiFactory, p256
from tests.support.ra_world import OPERATOR, RaWorld, merchant_subject, officer

pytestmark = pytest.mark.alone

HOUR = timedelta(hours=1)
LONGEST = 60
"""More steps than any act has."""


@dataclass
class Steps:
    """Counts the durable steps of a process, and kills it at the `fatal` one; 0: never."""

    fatal: int
    told: Path
    count: int = 0

    def at(self, name: str) -> None:
        self.count += 1
        if self.count == self.fatal:
            with self.told.open("a", encoding="ascii") as file:
                file.write(f"{name}\n")
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, method: str, name: str) -> None:
        """Have `owner.method` be a step: what is on disk after it is what is there before the next."""
        real = getattr(owner, method)

        def step(*arguments: Any, **named: Any) -> Any:
            result = real(*arguments, **named)
            self.at(name)
            return result

        setattr(owner, method, step)


@dataclass
class Stage:
    """An installation before an act: what the act needs, and when it is done."""

    folder: Path
    office: Office
    case: str = ""
    key: Key = field(default_factory=p256)
    next_key: Key = field(default_factory=p256)
    signed: bytes = b""
    later: timedelta = timedelta()

    def open(self, folder: Path, *, later: timedelta | None = None) -> RaWorld:
        """The registration authority over a copy of the stage, as a start makes it."""
        clock = Clock(self.office.now + (self.later if later is None else later))
        return RaWorld(folder, self.office, ca=CaWorld(folder, self.office, clock=clock))


Do = Callable[[RaWorld, Stage], Any]
Prepare = Callable[[RaWorld, Stage], None]


@dataclass(frozen=True)
class Deed:
    """An act: how the stage is set for it, what is done, and the state that the case is in then."""

    prepare: Prepare
    do: Do
    after: State
    later: timedelta = timedelta()
    calls: tuple[int, int] = (0, 0)
    """How often the CA is asked to issue and to revoke."""


# -- the acts ----------------------------------------------------------------------------------------------------------


def _draft(world: RaWorld, stage: Stage) -> None:
    stage.case = world.workflow.open(OPERATOR, "merchant").id


def _submitted(world: RaWorld, stage: Stage) -> None:
    stage.case = world.open_merchant(key=stage.key).id
    stage.signed = world.sign(stage.case, "vet", stage.office.vetter)


def _vetted(world: RaWorld, stage: Stage) -> None:
    _submitted(world, stage)
    world.workflow.decide(OPERATOR, stage.case, stage.signed)
    stage.signed = world.sign(stage.case, "approve", stage.office.approver)


def _certified(world: RaWorld, stage: Stage) -> None:
    _vetted(world, stage)
    world.workflow.decide(OPERATOR, stage.case, stage.signed)
    [issued] = world.store.certificates(stage.case)
    certificate = x509.load_der_x509_certificate(issued.der)
    stage.signed = stage.office.revocation(certificate, stage.office.vetter, reason="keyCompromise", date=world.now)


def _submission(key: Key) -> Submission:
    return Submission(merchant_subject(), {"signing": csr(key)})


def _decide(world: RaWorld, stage: Stage) -> None:
    world.workflow.decide(OPERATOR, stage.case, stage.signed)


def _vetter(do: str, reason: str) -> Do:
    return lambda world, stage: getattr(world.workflow, do)(officer(stage.office.vetter), stage.case, reason)


DEEDS: dict[str, Deed] = {
    "submit": Deed(
        _draft, lambda world, stage: world.workflow.submit(OPERATOR, stage.case, _submission(stage.key)), State.VETTING
    ),
    "amend": Deed(
        _submitted,
        lambda world, stage: _amended_once(world, stage),
        State.VETTING,
    ),
    "vet": Deed(_submitted, _decide, State.AWAITING_APPROVAL),
    "approve and issue": Deed(_vetted, _decide, State.ISSUED, calls=(1, 0)),
    "hold": Deed(_submitted, _vetter("hold", "waits for the bank"), State.ON_HOLD),
    "accept": Deed(_certified, lambda world, stage: world.workflow.accept(OPERATOR, stage.case), State.ACTIVE),
    "revoke": Deed(
        _certified,
        lambda world, stage: world.workflow.revoke(officer(stage.office.vetter), stage.signed),
        State.REVOKED,
        calls=(0, 1),
    ),
    "revoke what nobody accepted": Deed(
        _certified, lambda world, _stage: world.workflow.sweep(), State.REVOKED, 2 * HOUR, (0, 1)
    ),
    "remind": Deed(_submitted, lambda world, _stage: world.workflow.sweep(), State.VETTING, later=4 * DAY),
    "expire": Deed(_submitted, lambda world, _stage: world.workflow.sweep(), State.EXPIRED, later=31 * DAY),
}


def _amended_once(world: RaWorld, stage: Stage) -> None:
    """As a person does who was not answered: they look first whether it was done."""
    if world.store.application(stage.case).revision == 1:
        world.workflow.amend(OPERATOR, stage.case, _submission(stage.next_key))


# -- killing -----------------------------------------------------------------------------------------------------------


def _live(stage: Stage, deed: Deed, folder: Path, steps: Steps) -> None:
    world = stage.open(folder)
    steps.around(world.engine.dialect, "do_commit", "commit")
    steps.around(world.record.journal, "_flush", "journal")
    for call in ("issue", "revoke"):
        steps.around(world.workflow.authority, call, call)
    deed.do(world, stage)


def _account(world: RaWorld, stage: Stage) -> dict[str, Any]:
    """Everything that is told of the case anywhere, but for times, serial numbers and the like."""
    case = world.store.application(stage.case)
    transitions = world.store.transitions(stage.case)
    with reading(world.ca.engine) as db:
        intents = db.execute(select(ca_tables.intents.c.state)).scalars().all()
        revoked = db.execute(select(ca_tables.revocations.c.serial)).scalars().all()
    journal = [each.entry for each in read(world.journal)]
    keys = Counter(str(each["key"]) for each in journal if "key" in each)
    assert set(keys.values()) <= {1}, keys
    assert {f"transition/{each.seq}" for each in transitions} <= set(keys)
    assert world.store.unjournaled() == []
    assert world.store.unjournaled_entries() == []
    mine = [each.der for each in world.store.certificates(stage.case)]
    theirs = [each.der for each in world.ca.authority.store.search(identity="urn:kwbp:merchant:M-1")]
    assert mine == theirs
    assert len(mine) <= 1
    return {
        "state": case.state,
        "version": case.version,
        "revision": case.revision,
        "waits for": (case.step, case.waiting_for, case.missing),
        "reminded": (case.decide_warned, case.due_warned),
        "transitions": [(each.action, each.before, each.after, each.actor) for each in transitions],
        "events": Counter(str(each["event"]) for each in journal),
        "decisions": len(world.store.decisions(stage.case)),
        "certificates": len(mine),
        "intents": Counter(intents),
        "revoked": len(revoked),
    }


def _finish(stage: Stage, deed: Deed, folder: Path) -> dict[str, Any]:
    """The next start: what was left is finished, and whoever was not answered asks again."""
    world = stage.open(folder)
    try:
        world.workflow.resume()
        with suppress(ConflictError, WrongStateError, RefusedError):  # it is done
            deed.do(world, stage)
        world.workflow.sweep()
        world.workflow.resume()
        return _account(world, stage)
    finally:
        world.close()


@pytest.fixture(scope="module")
def office() -> Office:
    return Office(PkiFactory(), load_pack(TEXT.replace("within: P14D", "within: PT2H")))


@pytest.mark.parametrize("name", DEEDS)
def test_an_act_that_is_killed_at_any_step_is_done_once(name: str, office: Office, tmp_path: Path) -> None:
    deed = DEEDS[name]
    stage = Stage(tmp_path / "stage", office, later=deed.later)
    world = stage.open(stage.folder, later=timedelta())
    deed.prepare(world, stage)
    before = world.store.application(stage.case).state
    world.close()
    shutil.copytree(stage.folder, tmp_path / "undisturbed")
    expected = _finish(stage, deed, tmp_path / "undisturbed")
    assert expected["state"] is deed.after
    told = tmp_path / "deaths"
    stride = 1 if name == "approve and issue" or "EVERY_STEP" in os.environ else 3
    for fatal in range(1, LONGEST, stride):
        folder = tmp_path / f"death-{fatal}"
        shutil.copytree(stage.folder, folder)
        exit_code = ended(forked(lambda: _live(stage, deed, folder, Steps(fatal, told))))  # noqa: B023  # forked at once
        assert exit_code in {0, -signal.SIGKILL}
        assert _finish(stage, deed, folder) == expected, told.read_text("ascii").splitlines()[-1:]
        shutil.rmtree(folder)
        if exit_code == 0:
            break
    else:
        pytest.fail("it never lived")
    died = Counter(told.read_text("ascii").splitlines())
    assert died.total() > 0
    if stride == 1:
        assert died["commit"] > 1
        assert died["journal"] > 0
        assert (died["issue"], died["revoke"]) == deed.calls
    assert before is not deed.after or name in {"amend", "remind"}
