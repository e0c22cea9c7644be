"""One-time codes: sent over the gateway, typed in in time, few tries, few messages, and never kept or told."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import text

from ra.checks.phone import parse_phone
from ra.errors import InvalidSubmissionError, NotAllowedError, UnknownError, WrongStateError
from ra.records import Application
from ra.states import State
from registers.faults import Planned
from tests.support.ra_world import ANONYMOUS, OPERATOR, officer
from tests.support.registers_world import AskingRa

_numbers = itertools.count(1_000_000)


@pytest.fixture
def phone() -> str:
    """A number of the test's own: what is sent to one is limited."""
    return f"0912{next(_numbers)}"


def _code(ra: AskingRa, phone: str) -> str:
    """The code in the last message to the phone."""
    messages = ra.outside.registers.book.messages_to(phone)
    found = re.fullmatch(r"KWBP: ([0-9]{6})", messages[-1].text)
    assert found is not None
    return found[1]


def _wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06d}"


def _confirm(ra: AskingRa, application: Application, code: str) -> str:
    return ra.checks.confirm_phone(OPERATOR, application.id, code).state


def test_a_phone_that_was_confirmed_before_is_evidence_at_once(ra: AskingRa, phone: str) -> None:
    draft = ra.draft()
    assert ra.checks.give_phone(OPERATOR, draft.id, phone).state == "sent"
    assert _confirm(ra, draft, _code(ra, phone)) == "confirmed"
    case = ra.submit(draft)
    assert case.state is State.VETTING
    assert ra.signals(case) == ()
    assert "phone_code" in {piece.kind for piece in ra.world.store.evidence(case.id)}


def test_a_case_waits_for_the_code_and_goes_on_with_it(ra: AskingRa, phone: str) -> None:
    draft = ra.draft()
    ra.checks.give_phone(OPERATOR, draft.id, phone)
    case = ra.submit(draft)
    assert case.state is State.SCREENING
    persian = _code(ra, phone).translate(str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹"))
    assert _confirm(ra, case, persian) == "confirmed"
    assert ra.state(case) is State.VETTING
    assert ra.signals(case) == ()


def test_a_code_to_another_number_says_nothing_about_the_one_that_is_asked_about(ra: AskingRa, phone: str) -> None:
    """As it is when a number is given anew at the very moment in which the case is submitted."""
    draft, other = ra.draft(), f"0913{phone[4:]}"
    ra.checks.give_phone(OPERATOR, draft.id, phone)
    case = ra.submit(draft)
    ra.later(minutes=3)
    ra.phones.give(case.id, other)
    ra.phones.confirm(case.id, _code(ra, other))
    ra.later(minutes=1)
    assert ra.state(case) is State.SCREENING
    ra.later(minutes=30)
    assert (ra.state(case), ra.signals(case)) == (State.VETTING, ("phone_code_unanswered",))


def test_a_message_that_no_statement_asks_for_any_more_keeps_no_register_waiting(
    ra: AskingRa, phone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ra.outside.registers.faults.add(Planned(kind="messages", fault="error"))
    ra.checks.give_phone(OPERATOR, ra.draft().id, phone)
    ra.outside.registers.faults.add(Planned(kind="iban_owner", fault="error"))
    case = ra.submit()
    monkeypatch.setattr(ra.phones, "_rule", lambda: None)
    ra.later(minutes=2)
    assert ra.state(case) is State.VETTING


def test_a_code_that_nobody_types_in_is_a_signal(ra: AskingRa, phone: str) -> None:
    draft = ra.draft()
    ra.checks.give_phone(OPERATOR, draft.id, phone)
    case = ra.submit(draft)
    ra.later(minutes=29)
    assert ra.state(case) is State.SCREENING
    ra.later(minutes=1)
    assert (ra.state(case), ra.signals(case)) == (State.VETTING, ("phone_code_unanswered",))


def test_a_code_lives_for_a_while(ra: AskingRa, phone: str) -> None:
    draft = ra.draft()
    ra.checks.give_phone(OPERATOR, draft.id, phone)
    ra.world.clock.forward(timedelta(minutes=5))
    with pytest.raises(WrongStateError, match="cannot be tried any more"):
        _confirm(ra, draft, _code(ra, phone))


def test_a_code_has_few_tries_the_right_one_included(ra: AskingRa, phone: str) -> None:
    draft = ra.draft()
    ra.checks.give_phone(OPERATOR, draft.id, phone)
    code = _code(ra, phone)
    for left in (2, 1, 0):
        with pytest.raises(InvalidSubmissionError, match=f"{left} tries left"):
            _confirm(ra, draft, _wrong(code))
    with pytest.raises(WrongStateError):
        _confirm(ra, draft, code)


def test_wrong_codes_to_the_end_contradict(ra: AskingRa, phone: str) -> None:
    draft = ra.draft()
    ra.checks.give_phone(OPERATOR, draft.id, phone)
    case = ra.submit(draft)
    for send in range(3):
        if send:
            ra.world.clock.forward(timedelta(minutes=1))
            ra.checks.give_phone(OPERATOR, case.id, phone)
        code = ra.phones._code(ra.phones._read(case.id), 6)  # type: ignore[arg-type]  # it was given
        for _ in range(3):
            assert ra.state(case) is State.SCREENING
            with pytest.raises(InvalidSubmissionError):
                _confirm(ra, case, _wrong(code))
    assert (ra.state(case), ra.signals(case)) == (State.VETTING, ("phone_code_contradicted",))


def test_an_older_code_is_worth_nothing(ra: AskingRa, phone: str) -> None:
    draft = ra.draft()
    ra.checks.give_phone(OPERATOR, draft.id, phone)
    first = _code(ra, phone)
    ra.world.clock.forward(timedelta(minutes=1))
    ra.checks.give_phone(OPERATOR, draft.id, phone)
    texts = {message.text for message in ra.outside.registers.book.messages_to(phone)}
    second = next(iter({each.removeprefix("KWBP: ") for each in texts} - {first}), first)
    if second != first:
        with pytest.raises(InvalidSubmissionError):
            _confirm(ra, draft, first)
    assert _confirm(ra, draft, second) == "confirmed"


def test_messages_are_limited_for_a_case_and_for_a_number(ra: AskingRa, phone: str) -> None:
    draft = ra.draft()
    ra.checks.give_phone(OPERATOR, draft.id, phone)
    with pytest.raises(WrongStateError, match="a moment ago"):
        ra.checks.give_phone(OPERATOR, draft.id, phone)
    for _ in range(2):
        ra.world.clock.forward(timedelta(minutes=1))
        ra.checks.give_phone(OPERATOR, draft.id, phone)
    ra.world.clock.forward(timedelta(minutes=1))
    with pytest.raises(WrongStateError, match="for this application"):
        ra.checks.give_phone(OPERATOR, draft.id, phone)
    other = ra.draft()
    for _ in range(3):
        ra.checks.give_phone(OPERATOR, other.id, phone)
        ra.world.clock.forward(timedelta(minutes=1))
    with pytest.raises(WrongStateError, match="today"):
        ra.checks.give_phone(OPERATOR, ra.draft().id, phone)
    ra.world.clock.forward(timedelta(days=1))
    assert ra.checks.give_phone(OPERATOR, ra.draft().id, phone).state == "sent"


def test_a_gateway_that_is_away_is_asked_again_for_the_same_message(ra: AskingRa, phone: str) -> None:
    ra.outside.registers.faults.add(Planned(kind="messages", fault="close", count=1))
    draft = ra.draft()
    assert ra.checks.give_phone(OPERATOR, draft.id, phone).state == "sending"
    ra.later(seconds=20)
    (message,) = ra.outside.registers.book.messages_to(phone)
    assert message.asked == 2  # recognised by its key: one message
    assert _confirm(ra, draft, _code(ra, phone)) == "confirmed"


def test_a_message_that_came_too_late_is_not_sent(ra: AskingRa, phone: str) -> None:
    ra.outside.registers.faults.add(Planned(kind="messages", fault="error", count=1))
    draft = ra.draft()
    ra.checks.give_phone(OPERATOR, draft.id, phone)
    ra.later(minutes=6)
    assert ra.outside.registers.book.messages_to(phone) == []


def test_killed_before_the_message_was_noted_it_is_sent_once(make: Callable[..., AskingRa], phone: str) -> None:
    ra = make()
    draft = ra.draft()
    become = ra.phones._become

    def die(given: object, **values: object) -> bool:
        if values.get("state") == "sent":
            raise KeyboardInterrupt
        return become(given, **values)  # type: ignore[arg-type]  # handed through

    ra.phones._become = die  # type: ignore[method-assign, assignment]  # the process is killed here
    with pytest.raises(KeyboardInterrupt):
        ra.checks.give_phone(OPERATOR, draft.id, phone)
    ra.close()
    again = make()
    again.later(seconds=20)
    (message,) = again.outside.registers.book.messages_to(phone)
    assert message.asked == 2
    assert _confirm(again, draft, _code(again, phone)) == "confirmed"


def test_of_a_code_nothing_is_in_the_database_or_in_a_log(
    ra: AskingRa, phone: str, capfd: pytest.CaptureFixture[str]
) -> None:
    draft = ra.draft()
    ra.checks.give_phone(OPERATOR, draft.id, phone)
    code = _code(ra, phone)
    with pytest.raises(InvalidSubmissionError) as refused:
        _confirm(ra, draft, _wrong(code))
    _confirm(ra, draft, code)
    ra.submit(draft)
    out, err = capfd.readouterr()
    with ra.world.engine.connect() as db:
        rows = [
            str(tuple(row))
            for table in ("phones", "phone_sends", "checks", "transitions")
            for row in db.execute(text(f"SELECT * FROM {table}"))  # noqa: S608  # names of this list
        ]
    pattern = re.compile(rf"(?<![0-9a-f]){code}(?![0-9a-f])")
    assert [row for row in rows if pattern.search(row)] == []
    journal = ra.world.journal.read_text()
    assert not any(pattern.search(each) for each in (out, err, journal, str(refused.value)))
    assert phone not in out + err + journal


def test_a_phone_is_the_applicants_own_business(ra: AskingRa, phone: str) -> None:
    draft = ra.draft()
    for actor in (ANONYMOUS, officer(ra.world.office.vetter)):
        with pytest.raises(NotAllowedError):
            ra.checks.give_phone(actor, draft.id, phone)


def test_while_a_case_is_screened_its_phone_stays(ra: AskingRa, phone: str) -> None:
    draft = ra.draft()
    ra.checks.give_phone(OPERATOR, draft.id, phone)
    case = ra.submit(draft)
    ra.world.clock.forward(timedelta(minutes=1))
    with pytest.raises(WrongStateError, match="another number"):
        ra.checks.give_phone(OPERATOR, case.id, f"0913{next(_numbers)}")


def test_nobody_confirms_a_phone_before_it_is_given_or_after_officers_have_the_case(ra: AskingRa, phone: str) -> None:
    draft = ra.draft()
    with pytest.raises(UnknownError):
        _confirm(ra, draft, "123456")
    case = ra.submit(draft)
    with pytest.raises(WrongStateError):
        ra.checks.give_phone(OPERATOR, case.id, phone)


def test_a_class_without_the_check_gives_no_phone(ra: AskingRa, phone: str) -> None:
    card = ra.world.workflow.open(OPERATOR, "cardholder")
    with pytest.raises(WrongStateError, match="needs no phone"):
        ra.checks.give_phone(OPERATOR, card.id, phone)


@pytest.mark.parametrize("number", ["09121234567", "+989121234567", "00989121234567", "9121234567", "۰۹۱۲۱۲۳۴۵۶۷"])
def test_a_number_is_understood_as_people_write_it(number: str) -> None:
    assert parse_phone(number) == "09121234567"


@pytest.mark.parametrize("number", ["", "02112345678", "0912123456", "091212345678", "0912123456x", "0912 1234567"])
def test_what_is_no_mobile_number_is_refused_without_repeating_it(number: str) -> None:
    with pytest.raises(InvalidSubmissionError) as refused:
        parse_phone(number)
    assert not number or number not in str(refused.value)
