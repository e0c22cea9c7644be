"""Whatever order sales, repeats and reversals come in: no rial is made or lost, each sale moves money at most once."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from sqlalchemy import Connection

from runtime.database import open_database
from runtime.settings import Home, PasswordSettings
from shetab.dialect import Dialect
from shetab.iran import Banks
from shetab.message import Message
from shetab.reversal import repeated, reversal_advice
from shetab.types import Rial
from switch import authorisation
from switch.bank import transact_on
from switch.key_ring import KeyRing
from switch.recording import Rules
from switch.service import INSTITUTION, database_path, issuer_keys, open_bank
from switch.zone import ZoneKeys
from tests.support.acquirer import ACQUIRER, Acquirer
from tests.switch.conftest import new_zone

_OPENING = 10_000
_NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Network(RuleBasedStateMachine):
    """A network that loses, repeats and reorders; the model keeps what each request must have been answered."""

    sent: Bundle[Message] = Bundle("sent")
    reversals: Bundle[Message] = Bundle("reversals")

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        zone = new_zone(Home(Path(self._folder.name)))
        self._bank = open_bank(zone.home, clock=lambda: _NOW)
        self._bank.register_acquirer(ACQUIRER, "Acquirer")
        self._iban = self._bank.open_account(ACQUIRER, holder="Member One", balance=Rial(_OPENING)).iban
        self._card = self._bank.issue_card(self._iban)
        self._acquirer = Acquirer("", 0, zone.pin_key, zone.mac_key, clock=_NOW)
        self._engine = open_database(database_path(zone.home))
        self._transact = transact_on(self._engine)
        ring = KeyRing(ZoneKeys.load(zone.home.secrets), overlap=timedelta(minutes=1), clock=lambda: datetime.now(UTC))
        dialect = Dialect.load("shetab87_ascii")
        self._rules = Rules(
            dialect, issuer_keys(zone.home), ring, Banks.load(), INSTITUTION, os.urandom, PasswordSettings()
        )
        self._answers: dict[tuple[str, ...], Message] = {}
        self._standing: dict[str, int] = {}  # amount by STAN of approved sales that were not taken back
        self._taken_back: set[str] = set()

    def teardown(self) -> None:
        self._engine.dispose()
        self._folder.cleanup()

    def _sale(self, request: Message) -> None:
        def job(connection: Connection) -> Message:
            return authorisation.sale(connection, self._rules, request, signed_on=ACQUIRER, now=_NOW)

        answer = self._transact(job)
        if self._same_as_before(request, answer):
            return
        affordable = request.amount <= _OPENING - sum(self._standing.values())
        expected = "05" if request[11] in self._taken_back else "00" if affordable else "51"
        assert answer[39] == expected
        if expected == "00":
            self._standing[request[11]] = request.amount

    def _reversal(self, request: Message) -> None:
        def job(connection: Connection) -> Message:
            return authorisation.reversal(connection, self._rules, request, signed_on=ACQUIRER, now=_NOW)

        answer = self._transact(job)
        if not self._same_as_before(request, answer):
            original = request[90][4:10]
            self._taken_back.add(original)
            self._standing.pop(original, None)

    def _same_as_before(self, request: Message, answer: Message) -> bool:
        key = self._rules.dialect.match_key(request)
        if key not in self._answers:
            self._answers[key] = answer
            return False
        assert self._answers[key] == answer
        return True

    @rule(target=sent, amount=st.integers(1, 4_000), arrives=st.booleans())
    def pay(self, amount: int, arrives: bool) -> Message:
        request = self._acquirer.sale(self._card, amount)
        if arrives:
            self._sale(request)
        return request

    @rule(request=sent, again=st.booleans())
    def arrives_late_or_again(self, request: Message, again: bool) -> None:
        self._sale(repeated(request, transmission_time="0301120001") if again else request)

    @rule(target=reversals, request=sent, arrives=st.booleans())
    def take_back(self, request: Message, arrives: bool) -> Message:
        advice = reversal_advice(request, stan=self._acquirer.next_stan(), transmission_time="0301120002")
        if arrives:
            self._reversal(advice)
        return advice

    @rule(advice=reversals)
    def take_back_again(self, advice: Message) -> None:
        self._reversal(repeated(advice, transmission_time="0301120003"))

    @invariant()
    def books_are_right(self) -> None:
        standing = sum(self._standing.values())
        assert self._bank.account(self._iban).balance == _OPENING - standing
        assert self._bank.intermediary(ACQUIRER).balance == standing
        assert self._bank.is_balanced()


TestNetwork = Network.TestCase
TestNetwork.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
