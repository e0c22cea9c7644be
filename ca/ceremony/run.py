"""Run a planned ceremony: rooms opened one after the other, each step journalled, everything published at the end.

The tokens of the services and the root's token are never open together: the root room opens after the service room was
closed, does the few things it was opened for, and is closed before anything else happens. Whatever interrupts a run,
its journal says where it stopped: `resume` goes on from there, `ca.ceremony.undo` takes back what can be taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from cryptography import x509

from ca.ceremony.act_plans import plan as plan_again
from ca.ceremony.acts import act_of
from ca.ceremony.journal import Begun, CeremonyJournal, Done
from ca.ceremony.plan import Plan, Room, Step
from ca.ceremony.publish import digests, published_files, published_tip, put_in_place
from ca.ceremony.room import CeremonyRoom, Clock, OpenRoom
from ca.ceremony.standing import Standing
from ca.ceremony.steps import Steps, registered
from ca.ceremony.transcript import Entry, Transcript
from ca.errors import CeremonyAbortedError, CeremonyError, KeysExistError, RegisteredKey
from ca.prepare import Rng
from ca.publication import Publication
from hsm_service.service import KeyInfo
from pki.der import sha256

Progress = Callable[[Step, Entry], None]

BEGIN = "begin"


@dataclass(frozen=True)
class Founded:
    """What a ceremony made: certificates and CRLs by order and authority name, and its transcript."""

    certificates: dict[str, x509.Certificate]
    crls: dict[str, x509.CertificateRevocationList]
    transcript: Transcript
    plan: Plan


def run(
    plan: Plan,
    *,
    service_room: OpenRoom,
    root_room: OpenRoom,
    folder: Path,
    rng: Rng,
    clock: Clock,
    journal: Path,
    progress: Progress = lambda _step, _entry: None,
) -> Founded:
    """Run `plan` and publish what it makes in `folder`, which for a founding must not hold anything yet.

    `service_room` and `root_room` open the tokens for the time of a `with` block; `journal` is the file in which the
    ceremony is journalled while it is under way.

    Raises CeremonyError or KeysExistError before anything was touched, CeremonyAbortedError afterwards: then nothing is
    published, and the journal is there to resume or undo from.
    """
    if plan.founds and folder.exists() and any(folder.iterdir()):
        raise CeremonyError(f"{folder} holds a hierarchy already", clause="CPS 6.1.1")
    if published_tip(folder) != plan.standing.tip:
        raise CeremonyError("another ceremony was published since this one was planned: plan it again")
    with CeremonyJournal.open(journal) as book:
        if book.header is not None:
            raise CeremonyError(
                f"the ceremony {book.header['ceremony']['ceremony']['id']} is not finished: resume or undo it first"
            )
        act = _Run(plan, book, rng, clock, progress)
        return act.go_on({"service": service_room, "root": root_room}, folder)


def resume(
    journal: Path,
    *,
    service_room: OpenRoom,
    root_room: OpenRoom,
    folder: Path,
    rng: Rng,
    clock: Clock,
    progress: Progress = lambda _step, _entry: None,
) -> Founded:
    """Go on with the ceremony of `journal` where it stopped: nothing that was made is made again. Raises as `run`."""
    with CeremonyJournal.open(journal) as book:
        plan = plan_of(book)
        if book.undoing is not None:
            raise CeremonyError("this ceremony is being undone: finish that")
        require_under_way(book, plan, folder)
        act = _Run(plan, book, rng, clock, progress)
        return act.go_on({"service": service_room, "root": root_room}, folder)


def plan_of(book: CeremonyJournal) -> Plan:
    """The plan of an unfinished ceremony, from its journal; raises CeremonyError if there is none."""
    if book.header is None:
        raise CeremonyError("no ceremony is under way")
    header = book.header
    again = plan_again(
        act_of(header["ceremony"]),
        {title: bytes.fromhex(data) for title, data in header["inputs"].items()},
        Publication(*header["publication"]),
        standing=Standing.from_document(header["standing"]),
        now=datetime.fromisoformat(header["at"]),
    )
    if again.digest != header["plan"]:
        raise CeremonyError("this software plans the ceremony otherwise than the one that began it")
    steps = [BEGIN, *map(str, again.steps)]
    told = [*(done.entry.step for done in book.done), *(each.step for each in (book.open_step,) if each is not None)]
    if told != steps[: len(told)] or (book.done and book.done[0].entry.outcome != begin_outcome(again)):
        raise CeremonyError(f"the steps in {book.path} are not those of the ceremony that it plans")
    return again


def require_under_way(book: CeremonyJournal, plan: Plan, folder: Path) -> None:
    """Raise CeremonyError if something was published since the plan was made, so that its journal is an old one.

    What this ceremony itself publishes does not count, from the moment it began to.
    """
    last = published_tip(folder)
    if last == plan.standing.tip:
        return
    if len(book.begun) < len(plan.steps):
        raise CeremonyError(
            f"another ceremony was published since this one was planned: {book.path} is the journal of an ended one",
            clause="CPS 6.1.1",
        )
    # Publishing began: whoever puts the files in place looks at what is there, and does nothing a second time.
    book.kept(archive_name(plan, str(last)))


def archive_name(plan: Plan, tip: str) -> str:
    """Under which name the journal of a finished ceremony is kept."""
    return f"{plan.ceremony.ceremony.id}-{tip[:16]}.jsonl"


class _Run:
    """A running ceremony."""

    def __init__(self, plan: Plan, book: CeremonyJournal, rng: Rng, clock: Clock, progress: Progress) -> None:
        self._plan = plan
        self._book = book
        self._clock = clock
        self._progress = progress
        self._looked: set[Room] = set()
        self._steps = Steps(plan, rng, clock)
        for done in book.done:
            self._steps.take(done.entry.step, done.entry.outcome, done.artefact)

    def go_on(self, rooms: Mapping[Room, OpenRoom], folder: Path) -> Founded:
        """Do every step that is not done yet, and end the ceremony."""
        left = self._plan.steps[max(0, len(self._book.done) - 1) :]
        step: Step | None = None
        try:
            for room_name, steps in groupby(left, key=lambda planned: planned.room):
                if room_name == "none":
                    for step in steps:
                        self._outside(step, folder)
                    continue
                step = None
                with rooms[room_name]() as room:
                    if room_name not in self._looked:
                        self._look_for_keys(room_name, room)
                    self._start()
                    for step in steps:
                        self._inside(step, room)
        except Exception as error:
            if self._book.header is None:
                raise  # nothing was touched
            where = str(step) if step is not None else f"opening the {room_name} room"
            raise CeremonyAbortedError(where, self._steps.registered) from error
        transcript = self._book.transcript
        self._book.archive(archive_name(self._plan, transcript.tip))
        return Founded(self._steps.certificates, self._steps.crls, transcript, self._plan)

    def _start(self) -> None:
        """Write down what is planned, once, before the first step."""
        if self._book.header is None:
            now = self._now()
            self._book.start(header_of(self._plan, now))
        if not self._book.done:
            self._book.finish(Done(Entry(0, self._now(), BEGIN, begin_outcome(self._plan), Transcript().tip)))

    def _now(self) -> datetime:
        """The time, in whole seconds; CeremonyError if the clock went back since the last step."""
        now = self._clock().replace(microsecond=0)
        if self._book.done and now < self._book.done[-1].entry.at:
            last = self._book.done[-1].entry.at
            raise CeremonyError(f"the clock says {now:%Y-%m-%d %H:%M:%S}, before the last step, which was at {last}")
        return now

    def _look_for_keys(self, name: Room, room: CeremonyRoom) -> None:
        """Find planned keys that exist although this ceremony did not make them; and those it made, still there."""
        self._looked.add(name)
        there = registered(room)
        begun = {each.step for each in self._book.begun}
        made = {
            done.entry.outcome["key"]: done.entry.outcome["spki_sha256"]
            for done in self._book.done
            if done.entry.step.startswith("key ")
        }
        strange: list[KeyInfo] = []
        for subject, order in self._plan.made.items():
            if order.room != name:
                continue
            found = there.get(order.name)
            if found is not None and found.template != order.template.name:
                raise CeremonyError(f"a key of another kind has the name {order.name}", clause="CPS 6.1.1")
            if order.name in made and (found is None or sha256(found.public_key).hex() != made[order.name]):
                raise CeremonyError(f"the key {order.name} that was made is not in its token", clause="CPS 6.1.1")
            if found is not None and f"key {subject}" not in begun:
                strange.append(found)
        if strange:
            raise KeysExistError([RegisteredKey(i.name, i.template, sha256(i.public_key).hex()) for i in strange])

    def _inside(self, step: Step, room: CeremonyRoom) -> None:
        begun = self._begin(step)
        outcome, artefact = self._steps.perform(step, room, begun.tbs, begun.at)
        self._finish(step, begun, outcome, artefact)

    def _outside(self, step: Step, folder: Path) -> None:
        begun = self._begin(step)
        if step.action == "check":
            self._finish(step, begun, self._steps.check(begun.at), None)
            return
        files = published_files(self._steps)
        transcript = self._book.transcript
        outcome = {"files": digests(files)}
        transcript.append(str(step), outcome, begun.at)
        put_in_place(folder, self._plan, files, transcript)
        self._finish(step, begun, outcome, None)

    def _begin(self, step: Step) -> Begun:
        begun = self._book.open_step
        if begun is None:
            now = self._now()
            begun = Begun(len(self._book.done), str(step), now, self._steps.prepare(step, now))
            self._book.begin(begun)
        return begun

    def _finish(self, step: Step, begun: Begun, outcome: dict[str, Any], artefact: bytes | None) -> None:
        entry = Entry(begun.number, begun.at, str(step), outcome, self._book.tip)
        self._book.finish(Done(entry, artefact))
        self._progress(step, entry)


def header_of(plan: Plan, now: datetime) -> dict[str, Any]:
    """What a journal begins with: all that a plan is made from."""
    return {
        "plan": plan.digest,
        "ceremony": plan.ceremony.model_dump(mode="json"),
        "inputs": {title: data.hex() for title, data in plan.inputs.items()},
        "publication": [plan.publication.repository, plan.publication.cps_uri],
        "standing": plan.standing.document(),
        "at": now.isoformat(),
    }


def begin_outcome(plan: Plan) -> dict[str, Any]:
    """What a transcript begins with; `after` is the tip of the ceremony before."""
    header = plan.ceremony.ceremony
    return {
        "ceremony": header.id,
        "kind": header.kind,
        "version": header.version,
        "section": header.section,
        "plan": plan.digest,
        "repository": plan.publication.repository,
        "cps": plan.publication.cps_uri,
        "after": plan.standing.tip,
    }
