"""An RA that asks the simulated registers over TLS, for tests; time stands still until a test moves it.

asked = AskingRa(tmp_path, office, outside, CaWorld(…))
case = asked.submit()                                  # asked right after it was submitted
asked.later(minutes=1)                                 # the durable schedule's work, a minute on
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from cps.check_model import CheckKind, CodeCheck
from ra.checks.connector import Answer, Connector, Question
from ra.checks.driver import Checks
from ra.checks.https import HttpsMessenger, HttpsRegister
from ra.checks.phone import PhoneCodes
from ra.checks.store import Check, CheckStore
from ra.records import Application
from ra.states import State
from ra.submission import Submission
from registers.service import RunningRegisters, running
from runtime.client import TlsFiles
from runtime.secrets import Secret
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office, csr
from tests.support.pki_factory import IBAN, p256
from tests.support.ra_world import OPERATOR, RaWorld, merchant_subject
from tests.support.tls import tls_issuer

COMPANY: Final = "14001000013"
PERSON: Final = ("9900100018", "شخص آزمایشی یک")
KINDS: Final[tuple[CheckKind, ...]] = ("national_code", "company_register", "iban_owner")


@dataclass(frozen=True)
class Outside:
    """The outside world: registers that run, the identities that may ask them."""

    registers: RunningRegisters
    ra: TlsFiles
    operator: TlsFiles
    stranger: TlsFiles

    def connector(self, kind: CheckKind) -> HttpsRegister:
        return HttpsRegister(f"register of {kind}", self.registers.url, self.ra)


@contextmanager
def outside_world(folder: Path) -> Iterator[Outside]:
    """Registers that know the merchant, the company and a person of the test cases."""
    tls = tls_issuer(folder)
    with running(folder / "registers.db", tls("registers")) as registers:
        registers.book.enter_company(COMPANY, "Bookshop Co")
        registers.book.enter_account(IBAN, ["Another Owner", "BOOKSHOP  CO."])
        registers.book.enter_person(*PERSON)
        yield Outside(
            registers,
            tls("ra", uri="urn:kwbp:service:ra"),
            tls("operator", uri="urn:kwbp:service:operator"),
            tls("stranger", uri="urn:kwbp:service:gateway"),
        )


class AskingRa:
    """An RA over `folder` with its identity checks; another one over the same folder is the RA after a restart."""

    def __init__(
        self,
        folder: Path,
        office: Office,
        outside: Outside,
        ca: CaWorld,
        *,
        between: Callable[[Connector], Connector] = lambda connector: connector,
        sign: Callable[..., bytes] | None = None,
        silent: tuple[CheckKind, ...] = (),
        patience: float = 10.0,
    ) -> None:
        """`between` may put something between the RA and a register; `silent` kinds have no connector."""
        self.outside = outside
        connectors = {kind: between(outside.connector(kind)) for kind in KINDS if kind not in silent}
        self.world = RaWorld(
            folder, office, ca=ca, screener=lambda world: self._checks(world, connectors, sign, patience)
        )
        self.checks.attach(self.world.workflow)
        self._closed = False

    def _checks(self, world: RaWorld, connectors: Mapping[CheckKind, Connector], sign: Any, patience: float) -> Checks:
        def rule() -> CodeCheck:
            found = world.register.in_force(world.now).checks["phone_code"]
            assert isinstance(found, CodeCheck)
            return found

        self.phones = PhoneCodes(
            world.engine,
            HttpsMessenger(self.outside.registers.url, self.outside.ra),
            rule,
            key=Secret(b"\x07" * 32),
            rng=os.urandom,
            clock=world.clock,
        )
        self.checks = Checks(
            CheckStore(world.engine),
            connectors,
            phones=self.phones,
            sign=sign or world._sign,
            rng=os.urandom,
            clock=world.clock,
            patience=patience,
        )
        return self.checks

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.checks.close()
            self.world.record.close()  # and not its CA, which is everybody's
            self.world.engine.dispose()

    # cases

    def draft(self) -> Application:
        return self.world.workflow.open(OPERATOR, "merchant")

    def submit(self, application: Application | None = None, /, **changes: Any) -> Application:
        """A merchant, submitted and asked about."""
        application = application or self.draft()
        submission = Submission(merchant_subject(**changes), {"signing": csr(p256())})
        return self.world.workflow.submit(OPERATOR, application.id, submission)

    def officer(self, national_code: str | None, name: str, person: str = "officer-9") -> Application:
        """An officer to be appointed."""
        subject = {
            "person_id": person,
            "name": name,
            "organisation": "RA",
            "roles": ["vetting_officer"],
        }
        application = self.world.workflow.open(OPERATOR, "officer")
        submission = Submission(subject, {"signing": csr(p256())}, national_code)
        return self.world.workflow.submit(OPERATOR, application.id, submission)

    def later(self, **by: float) -> None:
        """Some time on, the schedule comes to its work."""
        self.world.clock.forward(timedelta(**by))
        self.checks.work()

    def now(self, application: Application) -> Application:
        return self.world.store.application(application.id)

    def state(self, application: Application) -> State:
        return self.now(application).state

    def signals(self, application: Application) -> tuple[str, ...]:
        revision = self.world.store.revision(self.now(application))
        assert revision is not None
        return revision.signals

    def check(self, application: Application, kind: CheckKind) -> Check:
        """The newest check of a kind."""
        return [check for check in self.checks.store.of(application.id) if check.kind == kind][-1]


class Counting:
    """A connector that counts what passes through it."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self.source = connector.source
        self.asked: list[Question] = []

    def ask(self, question: Question, *, timeout: float) -> Answer:
        self.asked.append(question)
        return self._connector.ask(question, timeout=timeout)

    def close(self) -> None:
        self._connector.close()
