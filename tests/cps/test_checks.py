"""Identity checks: what comes of each answer, of silence, and of what could not be asked. Never nothing."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cps.check_model import CheckKind
from cps.checks import Conclusion, Outcome, Status, checks_of, conclude
from cps.errors import PackError
from cps.model import MemberClass, Pack, load_pack
from cps.packs import published
from cps.rules import Rule
from tests.cps.test_model import TEXT, document

PACK = published()
CONFIRMED = Outcome("confirmed")


def _pack(kind: str, **changes: Any) -> Pack:
    """The published pack with one check changed."""
    loaded = document()
    loaded["checks"][kind].update(changes)
    return load_pack(yaml.safe_dump(loaded))


def _merchant(pack: Pack = PACK, **outcomes: Outcome) -> Conclusion:
    """What becomes of a merchant whose checks are all confirmed but these."""
    every: dict[Any, Outcome] = dict.fromkeys(checks_of(pack, "merchant"), CONFIRMED)
    every.update(outcomes)
    return conclude(pack, "merchant", every)


def test_a_class_has_the_checks_that_the_ra_makes_for_it() -> None:
    assert {name: list(checks_of(PACK, name)) for name in get_args(MemberClass)} == {
        "cardholder": [],  # the card: its issuer's signed word is evidence
        "merchant": ["company_register", "iban_owner", "phone_code"],
        "gateway": [],
        "officer": ["national_code"],
    }


def test_nothing_is_to_be_said_if_everything_is_confirmed() -> None:
    assert _merchant() == Conclusion("proceed", (), ())
    assert conclude(PACK, "gateway", {}) == Conclusion("proceed", (), ())


def test_a_contradiction_sends_the_case_back_and_names_the_reason() -> None:
    found = _merchant(iban_owner=Outcome("contradicted", "name_differs"))
    assert (found.disposition, found.signals) == ("return", ("iban_owner_contradicted",))
    (finding,) = found.findings
    assert (finding.code, finding.clause) == (Rule.CHECK_CONTRADICTED, "CPS 3.2.2")
    assert finding.message == "iban_owner: the register says otherwise (name_differs)"


def test_a_contradiction_without_a_reason_is_one_all_the_same() -> None:
    (finding,) = _merchant(iban_owner=Outcome("contradicted")).findings
    assert finding.message == "iban_owner: the register says otherwise (unspecified)"


def test_some_reasons_end_a_case() -> None:
    assert _merchant(company_register=Outcome("contradicted", "dissolved")).disposition == "reject"
    assert conclude(PACK, "officer", {"national_code": Outcome("contradicted", "deceased")}).disposition == "reject"


def test_a_contradiction_can_be_a_signal_alone() -> None:
    found = _merchant(phone_code=Outcome("contradicted", "wrong_code"))
    assert found == Conclusion("proceed", ("phone_code_contradicted",), ())


def test_silence_is_a_signal() -> None:
    found = _merchant(company_register=Outcome("unanswered"))
    assert found == Conclusion("proceed", ("company_register_unanswered",), ())
    assert PACK.risk_of(found.signals) > PACK.risk.base


def test_silence_can_put_a_case_on_hold() -> None:
    pack = _pack("company_register", silence="hold")
    found = _merchant(pack, company_register=Outcome("unanswered"))
    assert (found.disposition, found.signals) == ("hold", ("company_register_unanswered",))
    (finding,) = found.findings
    assert (finding.code, finding.clause) == (Rule.CHECK_SILENT, "CPS 4.2.1")


def test_what_could_not_be_asked_is_a_signal() -> None:
    found = conclude(PACK, "officer", {"national_code": Outcome("not_asked")})
    assert found == Conclusion("proceed", ("national_code_not_asked",), ())


def test_a_check_that_nobody_speaks_of_is_silent() -> None:
    assert conclude(PACK, "officer", {}) == Conclusion("proceed", ("national_code_unanswered",), ())


def test_a_register_that_says_different_things_is_a_signal_once() -> None:
    twice = Outcome("confirmed", differs=True)
    assert _merchant(iban_owner=twice, company_register=twice) == Conclusion("proceed", ("answers_differ",), ())


def test_the_gravest_consequence_wins_and_all_are_told() -> None:
    pack = _pack("iban_owner", silence="hold")
    found = _merchant(pack, company_register=Outcome("contradicted", "not_found"), iban_owner=Outcome("unanswered"))
    assert found.disposition == "return"
    assert [finding.code for finding in found.findings] == [Rule.CHECK_CONTRADICTED, Rule.CHECK_SILENT]
    assert found.signals == ("company_register_contradicted", "iban_owner_unanswered")


KINDS = st.sampled_from(get_args(CheckKind))
OUTCOMES = st.builds(
    Outcome,
    st.sampled_from(get_args(Status)),
    st.sampled_from(["", "not_found", "name_differs", "deceased", "x"]),
    st.booleans(),
)
CHANGES = st.dictionaries(
    st.sampled_from(["national_code", "company_register", "iban_owner", "phone_code"]),
    st.fixed_dictionaries(
        {
            "silence": st.sampled_from(["signal", "hold"]),
            "contradiction": st.fixed_dictionaries({"otherwise": st.sampled_from(["signal", "return", "reject"])}),
        }
    ),
)
_DOCUMENT = yaml.safe_dump(document())


@given(st.sampled_from(get_args(MemberClass)), st.dictionaries(KINDS, OUTCOMES), CHANGES)
def test_no_mix_of_silence_and_contradictions_is_nothing_wrong(
    member: MemberClass, outcomes: dict[CheckKind, Outcome], changes: dict[CheckKind, Any]
) -> None:
    checks = {kind: check.model_copy(update=changes.get(kind, {})) for kind, check in PACK.checks.items()}
    pack = PACK.model_copy(update={"checks": checks})
    found = conclude(pack, member, outcomes)
    due = checks_of(pack, member)
    unconfirmed = [kind for kind in due if outcomes.get(kind) is None or outcomes[kind].status != "confirmed"]
    differing = any(outcomes[kind].differs for kind in due if kind in outcomes)
    assert len(set(found.signals)) == len(unconfirmed) + differing  # each leaves its own signal, which the pack weighs
    assert all(PACK.risk.signals[signal] > 0 for signal in found.signals)
    assert (found == Conclusion("proceed", (), ())) == (not unconfirmed and not differing)
    assert (found.disposition == "proceed") == (not found.findings)


# the data


def test_the_pauses_between_tries_grow_and_the_last_one_is_repeated() -> None:
    check = checks_of(PACK, "merchant")["iban_owner"]
    assert check.way == "register"
    assert [check.pause_after(tries).total_seconds() for tries in (1, 2, 3, 4, 5, 50)] == [10, 60, 300, 900, 900, 900]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param({"contradiction": {"dissolved": "reject"}}, "otherwise", id="some-reasons-forgotten"),
        pytest.param({"contradiction": {"otherwise": "ignore"}}, "contradiction", id="no-consequence"),
        pytest.param({"silence": "proceed"}, "silence", id="silence-is-success"),
        pytest.param({"patience": "PT0S"}, "patience", id="no-patience"),
        pytest.param({"backoff": []}, "backoff", id="no-pause"),
        pytest.param({"classes": ["merchant", "bank"]}, r"\['bank'\]", id="no-such-class"),
        pytest.param({"classes": ["gateway"]}, "comes of no check", id="evidence-of-nothing"),
        pytest.param({"way": "rumour"}, "way", id="no-such-way"),
    ],
)
def test_a_pack_with_a_faulty_check_is_refused(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(PackError, match=fault):
        _pack("company_register", **change)


def test_a_signal_that_a_check_leads_to_has_a_weight() -> None:
    loaded = document()
    del loaded["risk"]["signals"]["iban_owner_unanswered"]
    with pytest.raises(PackError, match="iban_owner_unanswered"):
        load_pack(yaml.safe_dump(loaded))


def test_only_the_answer_of_a_register_is_stood_in_for() -> None:
    with pytest.raises(PackError, match="instead is for evidence of the form check"):
        load_pack(TEXT.replace("{kind: acquirer_agreement, ", "{kind: acquirer_agreement, instead: letter, "))
