"""Identity checks from submit to the officers, with registers over TLS: asked, asked again, given up, handed over."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cps.check_model import CheckKind
from cps.register import PackRegister
from ra.checks.breaker import THRESHOLD
from ra.checks.connector import Answer, Connector, Question
from ra.states import State
from ra.submission import Submission
from ra.workflow import NewEvidence
from registers.faults import Fault, Planned
from runtime.problems import Problem
from tests.support.cps_cases import csr
from tests.support.pki_factory import IBAN, p256
from tests.support.ra_world import OPERATOR, merchant_subject, officer
from tests.support.registers_world import PERSON, AskingRa, Counting, Outside

Make = Callable[..., AskingRa]


def _fault(outside: Outside, kind: str, fault: Fault, count: int = 100, seconds: float = 0.0) -> None:
    outside.registers.faults.add(Planned(kind=kind, fault=fault, count=count, seconds=seconds))


def _evidence(ra: AskingRa, application: Any) -> dict[str, str]:
    return {piece.kind: piece.source for piece in ra.world.store.evidence(application.id)}


# All is well


def test_a_merchant_that_the_registers_know_comes_to_the_officers_with_their_answers_on_file(ra: AskingRa) -> None:
    case = ra.submit()
    assert case.state is State.VETTING
    assert _evidence(ra, case) == {
        "company_register": "register of company_register",
        "iban_owner": "register of iban_owner",
    }
    assert ra.signals(case) == ("phone_code_not_asked",)
    ra.world.add_document(case.id, "acquirer_agreement")
    ra.world.decide(case.id, "vet", ra.world.office.vetter)
    assert ra.world.decide(case.id, "approve", ra.world.office.approver).state is State.ISSUED


def test_what_was_asked_and_answered_is_in_the_journal_by_digest_alone(ra: AskingRa) -> None:
    case = ra.submit()
    text = ra.world.journal.read_text()
    entries = [json.loads(line) for line in text.splitlines()]
    noted = [each["entry"] for each in entries if each.get("entry", {}).get("event") == "ra.check"]
    assert {each["kind"]: each["answer"] for each in noted} == {
        "company_register": "confirmed",
        "iban_owner": "confirmed",
        "phone_code": "",
    }
    check = ra.check(case, "iban_owner")
    assert check.question_sha256 in text
    assert check.answer_sha256 in text
    assert IBAN not in text


def test_an_officer_is_compared_with_the_population_register_folded(ra: AskingRa) -> None:
    case = ra.officer(PERSON[0], PERSON[1].replace("ی", "ي"))  # as an Arabic keyboard has it
    assert case.state is State.VETTING
    assert ra.check(case, "national_code").status == "confirmed"


def test_an_officer_without_a_national_code_is_seen_by_a_signal(ra: AskingRa) -> None:
    case = ra.officer(None, "Vetting Officer Nine")
    assert case.state is State.VETTING
    assert ra.signals(case) == ("national_code_not_asked",)


# Contradictions


@pytest.mark.parametrize(
    ("changes", "kind", "reason"),
    [
        pytest.param({"organisation": "Nobody Co"}, "company_register", "not_found", id="no-such-company"),
        pytest.param({"iban": "IR340540000000000000001001"}, "iban_owner", "not_found", id="no-such-account"),
    ],
)
def test_what_a_register_contradicts_goes_back_with_the_reason(
    ra: AskingRa, changes: dict[str, str], kind: CheckKind, reason: str
) -> None:
    case = ra.submit(None, **changes)
    assert case.state is State.RETURNED
    assert (ra.check(case, kind).status, ra.check(case, kind).reason) == ("contradicted", reason)
    assert f"{kind}_contradicted" in ra.signals(case)
    assert case.trouble is not None
    assert "CHECK-CONTRADICTED" in str(case.trouble)
    assert reason in str(case.trouble)
    assert kind in _evidence(ra, case)  # the contradiction is on file, too


def test_an_account_of_another_owner_goes_back(ra: AskingRa, outside: Outside) -> None:
    iban = "IR070540000000000000001002"
    outside.registers.book.enter_account(iban, ["Somebody Else"])
    case = ra.submit(iban=iban)
    assert (case.state, ra.check(case, "iban_owner").reason) == (State.RETURNED, "name_differs")


def test_a_company_that_was_dissolved_ends_the_case(ra: AskingRa, outside: Outside) -> None:
    outside.registers.book.enter_company("14001000047", "Gone Co", "dissolved")
    assert ra.submit(organisation="Gone Co").state is State.REJECTED


def test_a_case_that_was_amended_is_asked_about_anew(ra: AskingRa) -> None:
    case = ra.submit(iban="IR340540000000000000001001")
    assert case.state is State.RETURNED
    again = ra.world.workflow.amend(*_amendment(case.id))
    assert again.state is State.VETTING
    assert ra.signals(case) == ("phone_code_not_asked",)


def test_a_register_that_says_different_things_twice_is_seen(ra: AskingRa, outside: Outside) -> None:
    _fault(outside, "iban_owner", "contradict", count=1)
    case = ra.submit()
    assert case.state is State.RETURNED
    again = ra.world.workflow.amend(*_amendment(case.id))  # nothing was changed, and now it is confirmed
    assert again.state is State.VETTING
    assert "answers_differ" in ra.signals(case)


def _amendment(application_id: str) -> Any:
    return OPERATOR, application_id, Submission(merchant_subject(), {"signing": csr(p256())})


# Silence


@pytest.mark.parametrize("fault", ["error", "close", "garbage", "endless", "another_key"])
def test_what_is_no_answer_is_asked_again_and_the_case_waits(ra: AskingRa, outside: Outside, fault: Fault) -> None:
    _fault(outside, "iban_owner", fault, count=1)
    case = ra.submit()
    assert case.state is State.SCREENING
    assert ra.check(case, "iban_owner").state == "due"
    assert ra.check(case, "iban_owner").trouble
    ra.later(seconds=16)
    assert ra.state(case) is State.VETTING
    assert ra.check(case, "iban_owner").attempts == 2


def test_a_register_that_stays_silent_is_given_up_and_the_case_shows_it(ra: AskingRa, outside: Outside) -> None:
    _fault(outside, "company_register", "error", count=1000)
    case = ra.submit()
    for _hour in range(4):
        assert ra.state(case) is State.SCREENING
        ra.later(hours=1)
    assert ra.state(case) is State.VETTING
    assert "company_register_unanswered" in ra.signals(case)
    assert "company_register" not in _evidence(ra, case)
    assert ra.check(case, "company_register").state == "gave_up"
    assert ra.check(case, "company_register").trouble == "status-500"


def test_silence_puts_a_case_on_hold_where_the_statement_says_so(ra: AskingRa, outside: Outside) -> None:
    pack = ra.world.office.pack
    held = pack.checks["company_register"].model_copy(update={"silence": "hold"})
    ra.world.register = PackRegister((pack.model_copy(update={"checks": {**pack.checks, "company_register": held}}),))
    _fault(outside, "company_register", "error", count=1000)
    case = ra.submit()
    ra.later(hours=5)
    assert ra.state(case) is State.ON_HOLD
    assert "company_register_unanswered" in ra.signals(case)
    assert "CHECK-SILENT" in str(ra.now(case).trouble)


def test_after_silence_a_document_stands_in_vouched_for_by_an_officer(ra: AskingRa, outside: Outside) -> None:
    _fault(outside, "company_register", "error", count=1000)
    case = ra.submit()
    ra.later(hours=5)
    ra.world.add_document(case.id, "acquirer_agreement")
    lacking = ra.world.workflow.judge(ra.world.workflow.dossier(ra.now(case))).findings
    assert [str(each.code) for each in lacking] == ["EVID-MISSING"]
    extract = NewEvidence(kind="company_document", body=b"an extract", source="paper file")
    ra.world.workflow.add_evidence(officer(ra.world.office.vetter), case.id, extract)
    assert ra.world.workflow.judge(ra.world.workflow.dossier(ra.now(case))).findings == ()


def test_a_register_without_an_address_is_silent_not_kind(make: Make) -> None:
    ra = make(silent=("company_register",))
    case = ra.submit()
    assert case.state is State.SCREENING
    ra.later(hours=5)
    assert "company_register_unanswered" in ra.signals(case)


def test_a_register_that_cannot_tell_confirms_nothing(ra: AskingRa, outside: Outside) -> None:
    _fault(outside, "company_register", "unknown")
    case = ra.submit()
    assert case.state is State.VETTING
    assert "company_register_unanswered" in ra.signals(case)
    assert "company_register" not in _evidence(ra, case)


def test_a_submission_does_not_wait_for_a_slow_register_for_ever(make: Make, outside: Outside) -> None:
    _fault(outside, "iban_owner", "slow", seconds=0.5)
    ra = make(patience=0.05)
    case = ra.submit()
    assert case.state is State.SCREENING
    ra.checks.close()  # waits for the answer that was under way
    assert ra.check(case, "iban_owner").status == "confirmed"


def test_a_dead_register_is_left_alone_and_keeps_no_other_waiting(make: Make, outside: Outside) -> None:
    counting: dict[str, Counting] = {}

    def between(connector: Connector) -> Connector:
        counting[connector.source] = Counting(connector)
        return counting[connector.source]

    ra = make(between=between)
    _fault(outside, "company_register", "error", count=1000)
    cases = [ra.submit(merchant_id=f"M-{number}") for number in range(8)]
    assert len(counting["register of company_register"].asked) == THRESHOLD
    assert len(counting["register of iban_owner"].asked) == len(cases)
    assert {ra.check(case, "iban_owner").status for case in cases} == {"confirmed"}
    outside.registers.faults.clear()
    ra.later(minutes=2)
    ra.later(minutes=2)
    assert {ra.state(case) for case in cases} == {State.VETTING}


# Once, whatever happens


class _Dies(BaseException):
    """The process is killed here."""


def test_killed_before_the_answer_is_on_disk_the_question_is_repeated_under_its_key(
    make: Make, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    ra = make()
    dying = threading.Event()
    answered = ra.checks._answered

    def die(check: Any, answer: Answer, source: str) -> None:
        if check.kind == "iban_owner" and not dying.is_set():
            dying.set()
            raise _Dies
        answered(check, answer, source)

    monkeypatch.setattr(ra.checks, "_answered", die)
    case = ra.submit()
    assert dying.is_set()
    assert ra.state(case) is State.SCREENING
    key = ra.check(case, "iban_owner").id
    assert outside.registers.book.asked(key) == 1
    ra.close()
    again = make()
    again.later(seconds=30)
    assert again.state(case) is State.VETTING
    assert outside.registers.book.asked(key) == 2  # recognised: answered as the first time
    assert [piece.kind for piece in again.world.store.evidence(case.id)] == ["company_register", "iban_owner"]


def test_killed_before_the_case_went_on_nothing_is_asked_twice(
    make: Make, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    ra = make()

    def die(*_args: Any) -> None:
        raise _Dies

    monkeypatch.setattr(ra.checks.store, "handed_over", die)
    with pytest.raises(_Dies):
        ra.submit()
    (case,) = ra.world.store.applications(states={State.VETTING}, limit=2)  # it had gone on already
    keys = [check.id for check in ra.checks.store.of(case.id)]
    ra.close()
    again = make()
    before = again.now(case)
    again.later(seconds=30)
    again.later(seconds=30)
    assert again.now(case) == before
    assert again.checks.store.to_hand_over() == ()
    assert {outside.registers.book.asked(key) for key in keys} <= {0, 1}


def test_what_was_answered_waits_for_the_key_that_signs_it(make: Make) -> None:
    away = threading.Event()
    away.set()
    signer: list[Any] = []

    def sign(content_type: Any, content: bytes) -> bytes:
        if away.is_set():
            raise Problem(503, "token-away", "the token is away")
        return bytes(signer[0](content_type, content))

    ra = make(sign=sign)
    signer.append(ra.world._sign)
    case = ra.submit()
    assert case.state is State.SCREENING
    assert ra.check(case, "iban_owner").status == "confirmed"
    away.clear()
    ra.later(seconds=15)
    assert ra.state(case) is State.VETTING
    assert ra.check(case, "iban_owner").attempts == 1


def test_of_two_drivers_one_asks(ra: AskingRa, outside: Outside) -> None:
    _fault(outside, "iban_owner", "error", count=1)
    due = ra.check(ra.submit(), "iban_owner")
    gate = threading.Barrier(2, timeout=20)
    taken = []

    def claim() -> None:
        gate.wait()
        taken.append(ra.checks.store.change(due, attempts=due.attempts + 1))

    threads = [threading.Thread(target=claim) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each is not None for each in taken) == 1


def test_a_case_that_ended_is_asked_about_no_more(ra: AskingRa, outside: Outside) -> None:
    _fault(outside, "iban_owner", "error", count=1)
    case = ra.submit()
    ra.world.workflow.withdraw(OPERATOR, case.id, "changed our mind")
    ra.later(minutes=5)
    assert ra.check(case, "iban_owner").attempts == 1
    assert ra.state(case) is State.WITHDRAWN
    assert ra.checks.store.to_hand_over() == ()


class _Raising:
    """A connector with a fault of its own."""

    source = "a register"

    def __init__(self, _connector: Connector) -> None:
        pass

    def ask(self, question: Question, *, timeout: float) -> Answer:
        raise RuntimeError(question.fields["name"])

    def close(self) -> None:
        """There is nothing to let go of."""


def test_a_fault_of_ours_is_no_answer_and_tells_nothing_of_the_question(
    make: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    ra = make(between=_Raising)
    case = ra.submit()
    assert case.state is State.SCREENING
    ra.later(hours=5)
    assert "iban_owner_unanswered" in ra.signals(case)
    out, err = capfd.readouterr()
    assert "Bookshop" not in out + err


def test_no_log_line_holds_what_was_asked(ra: AskingRa, outside: Outside, capfd: pytest.CaptureFixture[str]) -> None:
    _fault(outside, "iban_owner", "garbage")
    ra.submit()
    out, err = capfd.readouterr()
    assert IBAN not in out + err
