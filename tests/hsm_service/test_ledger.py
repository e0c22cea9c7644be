from __future__ import annotations

import pytest

from audit import Entry
from audit.checkpoint import EMPTY, TreeHead
from audit.entry import JsonValue
from hsm_service.ledger import (
    SERIAL_BITS,
    CheckpointClaim,
    Claim,
    CrlClaim,
    DossierClaim,
    Ledger,
    SerialClaim,
    TimestampClaim,
)
from runtime.problems import Problem

SERIAL = SerialClaim("ca", 77, "aa")
CRL = CrlClaim("ca", 5, "aa")


def _refused(ledger: Ledger, claim: Claim) -> str:
    with pytest.raises(Problem) as caught:
        ledger.claim(claim)
    assert caught.value.status == 409
    return caught.value.type


def _replay(ledger: Ledger, *entries: dict[str, JsonValue]) -> None:
    for index, entry in enumerate(entries):
        ledger.replay(Entry(index, "", entry))


def _intent(claim: Claim) -> dict[str, JsonValue]:
    return {"event": "intent", "keys": ["ca/1"], "input_sha256": claim.digest, **claim.fields()}


def test_a_serial_number_is_given_to_one_certificate() -> None:
    ledger = Ledger()
    ledger.claim(SERIAL)
    assert _refused(ledger, SerialClaim("ca", 77, "bb")) == "serial-not-fresh"


def test_another_authority_has_serial_numbers_of_its_own() -> None:
    ledger = Ledger()
    ledger.claim(SERIAL)
    ledger.claim(SerialClaim("other-ca", 77, "bb"))


def test_the_very_same_structure_may_be_signed_again() -> None:
    ledger = Ledger()
    for claim in (SERIAL, SERIAL, CRL, CRL):
        ledger.claim(claim)


@pytest.mark.parametrize("number", [4, 5])
def test_a_revocation_list_has_a_larger_number_than_the_last(number: int) -> None:
    ledger = Ledger()
    ledger.claim(CRL)
    assert _refused(ledger, CrlClaim("ca", number, "bb")) == "crl-number-not-larger"
    ledger.claim(CrlClaim("ca", 6, "bb"))


def test_an_old_list_is_not_signed_again_once_a_newer_one_was() -> None:
    ledger = Ledger()
    ledger.claim(CRL)
    ledger.claim(CrlClaim("ca", 6, "bb"))
    assert _refused(ledger, CRL) == "crl-number-not-larger"


def test_what_failed_is_free_again() -> None:
    ledger = Ledger()
    for claim, other in ((SERIAL, SerialClaim("ca", 77, "bb")), (CRL, CrlClaim("ca", 5, "bb"))):
        ledger.claim(claim)
        ledger.release(claim)
        ledger.claim(other)


def test_a_repeat_that_fails_does_not_free_what_was_signed() -> None:
    ledger = Ledger()
    ledger.claim(SERIAL)
    ledger.claim(SERIAL)
    ledger.release(SERIAL)
    assert _refused(ledger, SerialClaim("ca", 77, "bb")) == "serial-not-fresh"


@pytest.mark.parametrize("claim", [SERIAL, CRL], ids=["serial", "crl"])
def test_the_journal_brings_every_claim_back(claim: Claim) -> None:
    other = type(claim)("ca", claim.serial if isinstance(claim, SerialClaim) else claim.number, "bb")
    done, interrupted, failed = Ledger(), Ledger(), Ledger()
    _replay(done, _intent(claim), {"event": "outcome", "intent": 0, "result": "done"})
    _replay(interrupted, _intent(claim))
    _replay(failed, _intent(claim), {"event": "outcome", "intent": 0, "result": "failed"})
    _refused(done, other)
    _refused(interrupted, other)
    failed.claim(other)


def test_an_outcome_that_nobody_knows_ends_an_intent_and_keeps_its_claims() -> None:
    ledger = Ledger()
    ended: dict[str, JsonValue] = {"event": "outcome", "intent": 0, "result": "unknown", "reason": "process-ended"}
    _replay(ledger, _intent(SERIAL), _intent(CRL), ended)
    assert ledger.unended == [1]
    _refused(ledger, SerialClaim("ca", 77, "bb"))
    _refused(ledger, CrlClaim("ca", 5, "bb"))


def test_uses_are_counted_by_intents_of_the_version() -> None:
    ledger = Ledger()
    use: dict[str, JsonValue] = {"event": "intent", "keys": ["shop/1", "vault/2"], "input_sha256": ""}
    _replay(
        ledger,
        use,
        use,
        {"event": "intent", "key": "shop/1"},  # its making: the token was not asked to use it
        {"event": "refused", "keys": ["shop/1"]},
        {"event": "journal.torn-tail", "bytes": 1, "sha256": ""},
    )
    assert (ledger.uses("shop", 1), ledger.uses("vault", 2), ledger.uses("shop", 2)) == (2, 2, 0)


# -- approvals and time-stamps -----------------------------------------------------------------------------------------

APPROVAL = DossierClaim("5e", "signing", "aa")
SECOND = 1_700_000_000
TIMESTAMP = TimestampClaim("tsa", SECOND << SERIAL_BITS | 1, "aa")


def test_an_approval_is_good_for_one_certificate_a_purpose() -> None:
    ledger = Ledger()
    ledger.claim(APPROVAL)
    ledger.claim(APPROVAL)
    assert _refused(ledger, DossierClaim("5e", "signing", "bb")) == "approval-used"
    ledger.claim(DossierClaim("5e", "tls", "bb"))
    ledger.claim(DossierClaim("5f", "signing", "bb"))


def test_an_intent_with_two_claims_takes_both_and_its_failure_gives_both_back() -> None:
    intent = {**_intent(SERIAL), **APPROVAL.fields()}
    ledger = Ledger()
    _replay(ledger, intent)
    assert _refused(ledger, SerialClaim("ca", 77, "bb")) == "serial-not-fresh"
    assert _refused(ledger, DossierClaim("5e", "signing", "bb")) == "approval-used"

    ledger = Ledger()
    _replay(ledger, intent, {"event": "outcome", "intent": 0, "result": "failed"})
    ledger.claim(SerialClaim("ca", 77, "bb"))
    ledger.claim(DossierClaim("5e", "signing", "bb"))


def test_the_newest_list_of_an_authority_is_known_after_a_restart() -> None:
    ledger = Ledger()
    assert ledger.newest_crl("ca") is None
    _replay(ledger, _intent(CRL), _intent(CrlClaim("ca", 6, "bb")))
    assert ledger.newest_crl("ca") == 6
    assert ledger.newest_crl("other-ca") is None


def test_a_full_list_is_not_the_newest_once_a_delta_followed() -> None:
    """Who holds back the delta must not be believed with the full list alone."""
    ledger = Ledger()
    _replay(ledger, _intent(CrlClaim("ca", 6, "aa")), _intent(CrlClaim("ca", 7, "bb", "partition")))
    assert ledger.newest_crl("ca") == 6
    ledger.claim(CrlClaim("ca", 8, "cc", "delta"))
    assert (ledger.newest_crl("ca"), ledger.is_full_crl("ca", 6), ledger.is_full_crl("ca", 8)) == (8, True, False)


def test_a_time_stamps_number_is_never_given_twice_not_even_after_a_failure_or_a_restart() -> None:
    ledger = Ledger()
    _replay(ledger, {**_intent(TIMESTAMP), "keys": ["tsa/1"]}, {"event": "outcome", "intent": 0, "result": "failed"})
    ledger.claim(TIMESTAMP)
    ledger.release(TIMESTAMP)
    other = TimestampClaim("tsa", TIMESTAMP.serial, "bb")
    assert _refused(ledger, other) == "serial-not-fresh"
    ledger.claim(TimestampClaim("other-tsa", TIMESTAMP.serial, "bb"))


def test_the_numbers_of_time_stamps_that_were_signed_together_are_remembered_each() -> None:
    second = TimestampClaim("tsa", TIMESTAMP.serial + 1, "bb")
    together: dict[str, JsonValue] = {
        "event": "intent",
        "keys": ["tsa/1"],
        "count": 3,
        "inputs_sha256": ["aa", "cc", "bb"],
        "claims": [TIMESTAMP.fields(), {}, second.fields()],
    }
    ledger = Ledger()
    _replay(ledger, together, {"event": "outcome", "intent": 0, "result": "failed"})
    ledger.claim(TIMESTAMP)
    ledger.claim(second)
    assert _refused(ledger, TimestampClaim("tsa", TIMESTAMP.serial, "bb")) == "serial-not-fresh"
    assert _refused(ledger, TimestampClaim("tsa", second.serial, "aa")) == "serial-not-fresh"
    assert ledger.uses("tsa", 1) == 3


def test_claims_of_a_batch_that_failed_are_free_again() -> None:
    together: dict[str, JsonValue] = {
        "event": "intent",
        "keys": ["ca/1"],
        "count": 1,
        "inputs_sha256": ["aa"],
        "claims": [SERIAL.fields()],
    }
    ledger = Ledger()
    _replay(ledger, together, {"event": "outcome", "intent": 0, "result": "failed"})
    ledger.claim(SerialClaim("ca", 77, "bb"))


def test_a_gen_time_before_one_that_was_signed_is_refused() -> None:
    ledger = Ledger()
    ledger.claim(TIMESTAMP)
    ledger.claim(TimestampClaim("tsa", SECOND - 10 << SERIAL_BITS, "aa"))
    assert _refused(ledger, TimestampClaim("tsa", SECOND - 11 << SERIAL_BITS, "aa")) == "time-went-back"
    ledger.claim(TimestampClaim("other-tsa", SECOND - 11 << SERIAL_BITS, "aa"))


def test_numbers_are_forgotten_only_when_their_time_is_long_past() -> None:
    ledger = Ledger()
    for second in range(4096):
        ledger.claim(TimestampClaim("tsa", SECOND + second << SERIAL_BITS, "aa"))
    assert _refused(ledger, TimestampClaim("tsa", SECOND + 4095 - 500 << SERIAL_BITS, "bb")) == "serial-not-fresh"
    assert len(ledger._timestamps["tsa"]) < 2048


def test_a_log_s_next_checkpoint_starts_from_the_last_also_after_a_failure_and_a_restart() -> None:
    five = TreeHead(5, b"\x05" * 32)
    first = CheckpointClaim("log-ca", five, EMPTY)
    ledger = Ledger()
    ledger.claim(first)
    ledger.release(first)
    assert ledger.last_checkpoint("log-ca") == five
    assert _refused(ledger, CheckpointClaim("log-ca", TreeHead(5, b"\x06" * 32), EMPTY)) == "checkpoint-not-next"
    ledger.claim(CheckpointClaim("log-ra", TreeHead(9, b"\x09" * 32), EMPTY))
    again = Ledger()
    intent: dict[str, JsonValue] = {"event": "intent", "keys": ["log-ca/1"], "input_sha256": "aa", **first.fields()}
    _replay(again, intent, {"event": "outcome", "intent": 0, "result": "failed"})
    assert again.last_checkpoint("log-ca") == five
    again.claim(CheckpointClaim("log-ca", TreeHead(6, b"\x06" * 32), five))


def test_a_log_s_last_checkpoint_is_the_largest_however_the_intents_of_two_threads_were_recorded() -> None:
    five, nine = TreeHead(5, b"\x05" * 32), TreeHead(9, b"\x09" * 32)
    ledger = Ledger()
    intents: list[dict[str, JsonValue]] = [
        {
            "event": "intent",
            "keys": ["log-ca/1"],
            "input_sha256": "aa",
            **CheckpointClaim("log-ca", head, head).fields(),
        }
        for head in (nine, five)
    ]
    _replay(ledger, *intents)
    assert ledger.last_checkpoint("log-ca") == nine


def test_a_list_that_was_not_signed_is_not_the_newest() -> None:
    ledger = Ledger()
    ledger.claim(CRL)
    assert ledger.newest_crl("ca") == 5
    ledger.claim(failed := CrlClaim("ca", 6, "bb"))
    assert ledger.newest_crl("ca") == 6
    ledger.release(failed)
    assert ledger.newest_crl("ca") == 5
