"""An interrupted ceremony: what can still be done about it, and taking back what can be taken back.

| it stopped | resume | undo |
| --- | --- | --- |
| before an authority in force signed anything | yes | keys it made are destroyed; nothing else is there |
| after one did | yes | keys nobody certified are destroyed; certified ones are disabled, their certificates revoked |
| after the next root's certificate or the root's list was signed, a key restored or taken out of use | yes | no |
| while a key was being restored, taken out of use, or looked for | yes | it says what may have happened |
| while publishing | yes | no |

A certificate that was signed cannot be unsigned: somebody may hold a copy. It goes on its issuer's list, with the
reason cessationOfOperation, whether or not it was ever seen. A founding is different: its certificates lead to a root
that nobody pins, and end with its key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from ca.ceremony.acts import CrlCeremony
from ca.ceremony.journal import Begun, CeremonyJournal
from ca.ceremony.plan import Plan, Room
from ca.ceremony.publish import digests, put_in_place, transcript_name
from ca.ceremony.room import CeremonyRoom, Clock, OpenRoom
from ca.ceremony.run import plan_of, require_under_way
from ca.ceremony.standing import read_transcripts
from ca.ceremony.steps import crl_number, crl_outcome, registered
from ca.ceremony.transcript import Transcript
from ca.crl import ListedSerial, entry_der, listed, next_number, prepare_crl
from ca.errors import CeremonyError
from ca.hierarchy import ROOTS
from ca.lints import twin
from ca.prepare import ROOT, Issuer, certified_key
from ca.profile import profiles
from ca.signing import sign_crl
from ca.store import serial_hex
from cps.model import RevocationReason
from pki.der import sha256

Revoke = Callable[[str, Sequence[ListedSerial]], None]
"""(issuer, entries): has an authority in service list these serials. A second time does nothing."""

UNDO: Final = "undo"
REASON: Final[RevocationReason] = "cessationOfOperation"
_FINAL_BEGUN: Final = {"crl": "the root's next list was signed", "publish": "publishing began"}
"""What cannot be undone once it was begun, because nobody knows how far it came."""
_FINAL_DONE: Final = {
    "restore": "a key was restored",
    "disable": "a key was taken out of use",
    "attest": "a key was seen to be gone",
}
"""What cannot be undone once it was done; begun and not done, whoever asks the token sees whether it was."""


@dataclass(frozen=True, slots=True)
class State:
    """Where an unfinished ceremony stands. `undoing`: it is being taken back, and only that can be finished.

    `keys` are those it made, or was about to make; `certificates` (step subjects) those signed by an authority in
    force, which cannot be unsigned; `obstacle` says why there is no undoing, if so.
    """

    ceremony: str
    kind: str
    plan: str
    done: int
    steps: int
    next: str | None
    interrupted: str | None
    keys: tuple[str, ...]
    certificates: tuple[str, ...]
    obstacle: str | None
    undoing: bool

    @property
    def can_resume(self) -> bool:
        return not self.undoing

    @property
    def can_undo(self) -> bool:
        return self.obstacle is None


@dataclass(frozen=True, slots=True)
class Undone:
    """What became of it: keys destroyed, keys that stay disabled because they are certified, certificates revoked.

    `uncertain` is a step that was begun and may have been done: it was neither finished nor taken back.
    """

    destroyed: tuple[str, ...]
    disabled: tuple[str, ...]
    revoked: tuple[str, ...]
    uncertain: str | None
    journal: Path


def state(journal: Path) -> State | None:
    """Where the ceremony of `journal` stands; None if none is under way. Raises CeremonyError if it is in use."""
    if not journal.exists():
        return None
    with CeremonyJournal.open(journal) as book:
        return None if book.header is None else _state(book, plan_of(book))


def _state(book: CeremonyJournal, plan: Plan) -> State:
    done, header = max(0, len(book.done) - 1), plan.ceremony.ceremony
    open_step = book.open_step
    return State(
        ceremony=header.id,
        kind=header.kind,
        plan=plan.digest,
        done=done,
        steps=len(plan.steps),
        next=str(plan.steps[done]) if done < len(plan.steps) else None,
        interrupted=None if open_step is None else open_step.step,
        keys=tuple(plan.keys[subject].name for subject in _made(book, plan)),
        certificates=tuple(_signed(book, plan)),
        obstacle=_obstacle(book, plan),
        undoing=book.undoing is not None,
    )


def _made(book: CeremonyJournal, plan: Plan) -> list[str]:
    begun = {each.step for each in book.begun}
    return [subject for subject in plan.made if f"key {subject}" in begun]


def _signed(book: CeremonyJournal, plan: Plan) -> dict[str, Begun]:
    """The certificates that authorities in force signed, or were about to sign."""
    found = {}
    for begun in book.begun:
        order = plan.orders.get(begun.step.removeprefix("certificate "))
        if order is None or order.issuer is None or not begun.step.startswith("certificate "):
            continue
        if plan.standing.authority(order.issuer) is not None:
            found[order.id] = begun
    return found


def _obstacle(book: CeremonyJournal, plan: Plan) -> str | None:
    for begun in book.begun:
        action = begun.step.split(" ")[0]
        if action == "publish" or (action == "crl" and isinstance(plan.ceremony, CrlCeremony)):
            return _FINAL_BEGUN[action]
        if action in _FINAL_DONE and begun != book.open_step:
            return _FINAL_DONE[action]
        order = plan.orders.get(begun.step.removeprefix("certificate "))
        if action == "certificate" and order is not None and order.issuer is None and not plan.founds:
            return "the next root's certificate was signed, and the root in force names its key"
    return None


def undo(
    journal: Path,
    *,
    service_room: OpenRoom,
    root_room: OpenRoom,
    folder: Path,
    clock: Clock,
    revoke: Revoke,
    progress: Callable[[str], None] = lambda _line: None,
) -> Undone:
    """Take the ceremony of `journal` back; interrupted, it is done again from the start and comes to the same end.

    Raises CeremonyError where it can only be resumed (`State.obstacle`), where another ceremony was published since,
    which may have made keys of the same names, and whatever opening a room raises.
    """
    with CeremonyJournal.open(journal) as book:
        plan = plan_of(book)
        found = _state(book, plan)
        if found.obstacle is not None:
            raise CeremonyError(f"this ceremony cannot be undone any more, because {found.obstacle}: resume it")
        if book.undoing is not None:
            ended = book.kept(_archive_name(found, book.undoing)).name
            if (published := _published(book, plan, folder)) is not None:
                return _undone(published, book.archive(ended))
        require_under_way(book, plan, folder)
        book.begin_undo(clock())
        assert book.undoing is not None
        act = _Undo(book, plan, book.undoing, progress)
        rooms: Mapping[Room, OpenRoom] = {"service": service_room, "root": root_room}
        # The key that signs on what is revoked is needed last.
        for name in ("service", "root"):
            act.visit(name, rooms[name])
        act.tell(revoke)
        act.publish(folder)
        kept = book.archive(_archive_name(found, book.undoing))
        return Undone(tuple(act.destroyed), tuple(act.disabled), tuple(act.revoked), act.uncertain, kept)


def _archive_name(of: State, at: datetime) -> str:
    return f"{of.ceremony}-undone-{at:%Y%m%dT%H%M%SZ}.jsonl"


def _published(book: CeremonyJournal, plan: Plan, folder: Path) -> Mapping[str, Any] | None:
    """The outcome of this very undoing, if it came as far as to publish its transcript.

    It is not made a second time: lists signed again have other bytes, and what was published counts.
    """
    if plan.founds:
        return None
    name, transcript = read_transcripts(folder)[-1]
    begun = transcript.entries[: len(book.done)]
    ended = [each for each in transcript.entries if each.step == UNDO and each.at == book.undoing]
    if name != transcript_name(plan) or begun != [done.entry for done in book.done] or not ended:
        return None
    return ended[0].outcome


def _undone(outcome: Mapping[str, Any], kept: Path) -> Undone:
    revoked = tuple(outcome["revoked"])
    return Undone(tuple(outcome["destroyed"]), tuple(outcome["disabled"]), revoked, outcome["uncertain"], kept)


class _Undo:
    def __init__(self, book: CeremonyJournal, plan: Plan, at: datetime, progress: Callable[[str], None]) -> None:
        self._book = book
        self._plan = plan
        self._at = at
        self._progress = progress
        self._signed = _signed(book, plan)
        self._files: dict[str, bytes] = {}
        self._crls: dict[str, dict[str, Any]] = {}
        self.destroyed: list[str] = []
        self.disabled: list[str] = []
        self.revoked: list[str] = []
        last = book.open_step
        self.uncertain = last.step if last is not None and last.step.split(" ")[0] in _FINAL_DONE else None

    def visit(self, name: Room, open_room: OpenRoom) -> None:
        """Take back what was made in a room; in the root's, list what the root certified."""
        made = [subject for subject in _made(self._book, self._plan) if self._plan.keys[subject].room == name]
        plan = self._plan
        by_root = [begun for subject, begun in self._signed.items() if plan.by_root(plan.orders[subject])]
        with ExitStack() as opened:
            room = opened.enter_context(open_room()) if made or (name == "root" and by_root) else None
            if room is not None:
                self._require_own(made, room)
                for subject in made:
                    self._take_back(subject, room)
                if name == "root" and by_root:
                    for root in dict.fromkeys(map(self._issuer_of, by_root)):
                        self._list_at_root(root, [each for each in by_root if self._issuer_of(each) == root], room)

    def _require_own(self, made: Sequence[str], room: CeremonyRoom) -> None:
        """Before any is taken back: what has the name of a key that was made is that key."""
        entries = {done.entry.step: done.entry.outcome for done in self._book.done}
        there = {info.name: info for info in room.list_keys()}
        for subject in made:
            outcome, info = entries.get(f"key {subject}"), there.get(self._plan.keys[subject].name)
            if outcome is not None and info is not None and sha256(info.public_key).hex() != outcome["spki_sha256"]:
                raise CeremonyError(
                    f"{info.name} is another key now than the one that this ceremony made: this is the journal of an "
                    "older run",
                    clause="CPS 6.2.10",
                )

    def _issuer_of(self, begun: Begun) -> str:
        return str(self._plan.orders[begun.step.removeprefix("certificate ")].issuer)

    def _take_back(self, subject: str, room: CeremonyRoom) -> None:
        order = self._plan.keys[subject]
        if subject in self._signed:
            info = registered(room).get(order.name)
            if info is not None and info.state == "ENABLED":
                room.disable_key(order.name, info.version)
            self.disabled.append(order.name)
            self._progress(f"disabled {order.name}: it is certified, and its certificate is revoked")
            return
        there = {info.name: info for info in room.list_keys()}.get(order.name)
        if there is not None:
            if there.state == "PENDING":  # killed while it was made: finished, then destroyed as one that is known
                room.generate_key(order.name, order.template.name, owner=order.owner)
            room.take_back_key(order.name)
        self.destroyed.append(order.name)
        self._progress(f"destroyed {order.name}")

    def _entry(self, begun: Begun) -> ListedSerial:
        assert begun.tbs is not None
        order = self._plan.orders[begun.step.removeprefix("certificate ")]
        issuer = self._plan.standing.authority(str(order.issuer))
        assert issuer is not None
        certificate = twin(begun.tbs, certified_key(issuer))
        return ListedSerial(serial_hex(certificate.serial_number), REASON, self._at, None)

    def _list_at_root(self, root: str, signed: Sequence[Begun], room: CeremonyRoom) -> None:
        standing, rule = self._plan.standing, profiles()[ROOT].ca
        assert rule is not None
        old, certificate = standing.crls[root], standing.authority(root)
        assert certificate is not None  # it signed in this ceremony
        issuer = Issuer(root, certificate)
        entries = [*listed(old), *map(self._entry, signed)]
        tbs = prepare_crl(
            issuer,
            number=next_number(crl_number(old), self._at),
            entries=[entry_der(each.serial, each.revoked_at, each.reason, each.invalidity_date) for each in entries],
            rule=rule.crl,
            now=self._at,
        )
        crl = sign_crl(room, root, tbs, issuer.public_key)
        self._files[f"crls/{root}.crl"] = crl.public_bytes(Encoding.DER)
        self._crls[root] = crl_outcome(root, crl, with_entries=True)

    def tell(self, revoke: Revoke) -> None:
        """Have the authorities in service list what they signed."""
        for subject, begun in self._signed.items():
            issuer = self._issuer_of(begun)
            if not self._plan.standing.is_root(issuer):
                revoke(issuer, [self._entry(begun)])
            self.revoked.append(subject)
            self._progress(f"revoked {subject}, which {issuer} signed")

    def publish(self, folder: Path) -> None:
        """Nothing of a founding; of other ceremonies the transcript as far as it came, and how it ended."""
        if self._plan.founds or not self._book.done:
            return
        transcript = Transcript()
        transcript.entries.extend(done.entry for done in self._book.done)
        for root, outcome in self._crls.items():
            transcript.append(f"crl {root if root == ROOT else f'{ROOTS}/{root}'}", outcome, self._at)
        serials = {subject: self._entry(begun).serial for subject, begun in self._signed.items()}
        outcome = {
            "destroyed": self.destroyed,
            "disabled": self.disabled,
            "revoked": serials,
            "uncertain": self.uncertain,
        }
        transcript.append(UNDO, outcome, self._at)
        transcript.append("publish hierarchy", {"files": digests(self._files)}, self._at)
        put_in_place(folder, self._plan, self._files, transcript)
