"""A certificate authority that is killed hundreds of times issues every certificate once, or not at all.

A process is forked for each death: it opens the authority as a restart does, resumes what the one before it left, and
issues the next case, until SIGKILL ends it at one step of the pipeline or, from outside, at any moment. The next one
finds the database, the journal and the keys as they were left. At the end everything that the signer signed, the
serials, the intents, the certificates and the journal must tell the same story.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from sqlalchemy import select

from ca import tables
from ca.errors import CaError
from ca.issuance import LEASE, Issuance
from cps.dossier import Dossier
from runtime.database import open_database, reading
from statements.published import founding_only
from tests.support.ca_world import PUBLICATION, CaWorld, Clock
from tests.support.cps_cases import Office
from tests.support.databases import DATABASES, ca_database
from tests.support.forks import ended, forked
from tests.support.many_cases import merchant_cases
from tests.support.pki_factory import PkiFactory

# The time is only there to end a hang: it writes to the disk some ten thousand times.
pytestmark = [pytest.mark.alone, pytest.mark.timeout(900)]

STEPS = (
    "save_dossiers",
    "reserve_serials",
    "open_intents",
    "lease_intent",
    "note_many",
    "sign_certificates",
    "sign_certificate",
    "finish_intents",
    "mark_recorded",
)
"""What the pipeline asks of the store, the signer and the journal; each has a before and an after to die at."""
BOUNDARIES = tuple(f"{when} {step}" for step in STEPS for when in ("before", "after"))
ROUNDS = 4
SUDDEN = 30
TOGETHER = 2
"""Cases that a process issues together."""


@dataclass
class Steps:
    """Counts how often a process comes by a boundary, and kills it at the `nth` time; never if `fatal` is empty."""

    fatal: str
    nth: int
    told: Path
    count: int = 0

    def come_by(self, name: str) -> None:
        self.count += name == self.fatal
        if name == self.fatal and self.count == self.nth:
            with self.told.open("a", encoding="ascii") as file:
                file.write(f"{name}\n")
            os.kill(os.getpid(), signal.SIGKILL)


class Mortal:
    """A collaborator of the pipeline, each of whose steps may be the last thing that happens."""

    def __init__(self, real: Any, steps: Steps) -> None:
        self._real = real
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name not in STEPS:
            return real

        def step(*arguments: Any, **named: Any) -> Any:
            self._steps.come_by(f"before {name}")
            result = real(*arguments, **named)
            self._steps.come_by(f"after {name}")
            return result

        return step


class Signer:
    """The software keys, which write down what they signed before anybody gets it."""

    def __init__(self, real: Any, told: Path) -> None:
        self._real = real
        self._told = told

    def sign_certificate(self, name: str, tbs: bytes, basis: Any = None) -> bytes:
        signed: bytes = self._real.sign_certificate(name, tbs, basis)
        self._tell(tbs, signed)
        return signed

    def sign_certificates(self, name: str, items: Any, crls: Any) -> list[Any]:
        answers: list[Any] = self._real.sign_certificates(name, items, crls)
        for (tbs, _dossier), signed in zip(items, answers, strict=True):
            self._tell(tbs, signed)
        return answers

    def _tell(self, tbs: bytes, signed: bytes) -> None:
        with self._told.open("a", encoding="ascii") as file:
            file.write(f"{hashlib.sha256(tbs).hexdigest()} {hashlib.sha256(signed).hexdigest()}\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@dataclass
class Site:
    """Where an authority lives and dies."""

    folder: Path
    office: Office
    database: str

    @property
    def deaths(self) -> Path:
        return self.folder / "deaths"

    @property
    def signed(self) -> Path:
        return self.folder / "signed"

    def open(self, *, start: bool = False, later: timedelta = timedelta()) -> CaWorld:
        return CaWorld(
            self.folder,
            self.office,
            signer=lambda keys: Signer(keys, self.signed),
            clock=Clock(self.office.now + later),
            database=self.database,
            start=start,
        )

    def live(self, steps: Steps, cases: Sequence[Dossier]) -> None:
        """The life of a process: resume, then issue all of them together."""
        world = self.open()
        authority = world.authority
        authority.publisher.load()
        issuance = Issuance(
            store=Mortal(authority.store, steps),  # type: ignore[arg-type]
            hierarchy=authority.hierarchy,
            signer=Mortal(Signer(world.keys, self.signed), steps),  # type: ignore[arg-type]
            publisher=authority.publisher,
            record=Mortal(world.record, steps),  # type: ignore[arg-type]
            statements=founding_only(self.office.pack),
            publication=PUBLICATION,
            rng=os.urandom,
            clock=world.clock,
            replica="one",
        )
        issuance.resume()
        assert not any(isinstance(answer, CaError) for answer in issuance.issue_many(cases))
        world.close()

    def die_at(self, fatal: str, nth: int, cases: Sequence[Dossier]) -> None:
        """A process that dies when it comes by this boundary for the `nth` time, or lives if it does not."""
        child = forked(lambda: self.live(Steps(fatal, nth, self.deaths), cases))
        assert ended(child) in {0, -signal.SIGKILL}

    def die_suddenly(self, cases: Sequence[Dossier], after: float) -> None:
        """A process that is killed from outside, `after` seconds."""
        child = forked(lambda: self.live(Steps("", 0, self.deaths), cases))
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
        assert ended(child) in {0, -signal.SIGKILL}


@pytest.fixture(scope="module")
def office() -> Office:
    return Office(PkiFactory())


@pytest.fixture(scope="module")
def cases(office: Office) -> list[Dossier]:
    return merchant_cases(office, ROUNDS * len(BOUNDARIES) * TOGETHER + 2 * SUDDEN)


def founded(folder: Path, office: Office, database: str) -> Site:
    made = Site(folder, office, ca_database(database, folder))
    made.open(start=True).close()
    return made


def account(site: Site, world: CaWorld) -> Counter[str]:
    """Compare everything that was written anywhere; how many intents ended how."""
    engine = open_database(site.database)
    with reading(engine) as db:
        intents = db.execute(select(tables.intents)).all()
        certificates = db.execute(select(tables.certificates).where(tables.certificates.c.intent_id.is_not(None))).all()
        serials = {tuple(row) for row in db.execute(select(tables.serials.c.issuer, tables.serials.c.serial))}
        claims = set(db.execute(select(tables.certified_keys.c.spki_sha256)).scalars())
    engine.dispose()
    signed = [line.split() for line in site.signed.read_text("ascii").splitlines()]
    noted: dict[str, list[dict[str, Any]]] = {}
    for line in (site.folder / "audit" / "ca.jsonl").read_text("utf-8").splitlines():
        entry = json.loads(line).get("entry", {})
        noted.setdefault(str(entry.get("event")), []).append(entry)

    # Every intent ended, in one certificate or in none.
    assert {intent.state for intent in intents} <= {"issued", "abandoned"}
    by_intent = {certificate.intent_id: certificate for certificate in certificates}
    assert len(by_intent) == len(certificates)
    assert set(by_intent) == {intent.id for intent in intents if intent.state == "issued"}
    for intent in intents:
        assert (intent.issuer, intent.serial) in serials
        if intent.state == "issued":
            certificate = x509.load_der_x509_certificate(by_intent[intent.id].der)
            assert certificate.tbs_certificate_bytes == intent.tbs
            assert intent.spki_sha256 in claims
    # Nothing was signed that was not intended, and what was stored is something that was signed.
    assert {tbs for tbs, _ in signed} <= {intent.tbs_sha256 for intent in intents}
    assert {certificate.sha256 for certificate in certificates} <= {whole for _, whole in signed}
    # A case has one certificate at most.
    assert len({intent.revision_digest for intent in intents if intent.state == "issued"}) == len(certificates)
    # The journal has every intent and every certificate once, and no other.
    assert Counter(entry["key"] for entry in noted["ca.intent"]) == Counter(str(intent.id) for intent in intents)
    assert {entry["key"]: entry["sha256"] for entry in noted["ca.issued"]} == {
        str(number): certificate.sha256 for number, certificate in by_intent.items()
    }
    assert len(noted["ca.issued"]) == len(certificates)
    return Counter(intent.state for intent in intents)


@pytest.mark.parametrize("database", DATABASES)
def test_an_authority_that_is_killed_at_every_step_loses_doubles_and_forgets_nothing(
    database: str, office: Office, cases: list[Dossier], tmp_path: Path
) -> None:
    site = founded(tmp_path, office, database)
    left = iter(cases)
    tried: list[Dossier] = []

    def next_cases(count: int) -> list[Dossier]:
        tried.extend(taken := [next(left) for _ in range(count)])
        return taken

    for turn in range(ROUNDS):
        for boundary in BOUNDARIES:
            # The second time is often that of the new case, after what was left is finished.
            site.die_at(boundary, 1 + turn % 2, next_cases(TOGETHER))
    chance = random.Random(4)
    for _ in range(SUDDEN):
        site.die_suddenly(next_cases(2), chance.uniform(0.02, 0.15))

    # Another replica, by its name: it waits until the lease of what the last process left is over.
    world = site.open(start=True, later=LEASE)
    try:
        assert world.authority.store.unfinished() == []
        account(site, world)
        # Whoever was not answered asks again, and has one certificate.
        issued = [world.authority.issuance.issue(case)["signing"] for case in tried]
        assert len({record.serial for record in issued}) == len(tried)
        assert account(site, world) == {"issued": len(tried)}
    finally:
        world.close()
    deaths = Counter(site.deaths.read_text("ascii").split("\n")[:-1])
    assert set(deaths) == set(BOUNDARIES)
    assert deaths.total() >= ROUNDS * len(BOUNDARIES) // 2
