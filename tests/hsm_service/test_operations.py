"""Dual control on real tokens: from a request over the API to a key in its token, once, whatever happens in between."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes

from audit import verify
from cps.decision import Choice
from hsm_service.dual_control_policy import Policy, built_in_policy
from hsm_service.errors import TokenUnavailable
from hsm_service.operation_docket import Approving
from hsm_service.operation_info import ApprovalNeeded, OperationInfo
from hsm_service.operation_request import KeyOperation, OperationRequest, parse_request
from hsm_service.operation_store import OperationStore
from hsm_service.operations import MAX_OPEN
from hsm_service.service import SignCommand
from hsm_service.templates import Operation
from hsm_service.tokens import Token
from hsm_service.vault import Vault
from runtime.database import open_database
from runtime.problems import Problem
from tests.support.key_officers import HOUR, KeyOfficers, asked
from tests.support.pki_factory import NOW, Credential
from tests.support.signing_site import ACK, CEREMONY, OPERATOR, SHOP, World, acknowledgement, refusal
from tests.support.softhsm import opened, run_python

OFFICER = "officer:officer-1"


@pytest.fixture(scope="module")
def officers(founded: World) -> KeyOfficers:
    return KeyOfficers(founded.pki)


def sign_off(vault: Vault, officers: KeyOfficers, request: OperationRequest, *who: Credential) -> OperationInfo:
    for officer in who or (officers.first, officers.second):
        info = vault.operations.approve(OFFICER, request.id, officers.approve(request, officer))
    return info


# -- from the request to the key ---------------------------------------------------------------------------------------


def test_a_key_is_made_when_the_second_officer_signs_and_the_journal_names_them(
    world: World, officers: KeyOfficers
) -> None:
    with world.vault() as vault:
        request = asked(vault, reason="a new shop")
        assert "nine" not in {key.name for key in vault.list_keys(CEREMONY)}
        first = sign_off(vault, officers, request, officers.first)
        assert (first.state, first.needed, [each.person for each in first.approvals]) == ("PENDING", 2, ["officer-1"])
        last = sign_off(vault, officers, request, officers.second)
        assert (last.state, last.result) == ("DONE", {"outcome": {"key": "nine", "version": 1}})
        assert vault.describe_key(OPERATOR, "nine").state == "ENABLED"
    about = [entry for entry in world.journal() if entry.get("request") == request.id]
    assert [entry["event"] for entry in about] == ["requested", "approved", "approved", "intent", "ended"]
    assert about[0]["parameters"] == request.parameters
    assert about[0]["reason"] == "a new shop"
    certificates = [each.certificate.fingerprint(hashes.SHA256()).hex() for each in (officers.first, officers.second)]
    assert [entry["certificate_sha256"] for entry in about[1:3]] == certificates
    assert [each["certificate_sha256"] for each in about[3]["approved_by"]] == certificates
    assert [each["person"] for each in about[3]["approved_by"]] == ["officer-1", "officer-2"]
    assert about[3]["caller"] == OPERATOR


def test_a_ceremony_needs_no_officers_and_says_that_it_was_one(world: World) -> None:
    with world.vault() as vault:
        vault.generate_key(CEREMONY, "nine", "merchant-signing-ec", owner="M-9")
    intent = next(entry for entry in reversed(world.journal()) if entry["event"] == "intent")
    assert (intent["caller"], "request" in intent) == (CEREMONY, False)


def test_who_may_not_ask_gets_no_request(vault: Vault) -> None:
    refusal(lambda: vault.generate_key(SHOP, "nine", "merchant-signing-ec", owner="M-9"), 403, "caller-not-allowed")
    refusal(lambda: vault.generate_key(OPERATOR, "shop", "merchant-signing-ec", owner="M-9"), 409, "key-exists")
    assert vault.operations.list(OFFICER) == []


def test_asking_again_is_the_same_request_and_asking_for_something_else_another(vault: Vault) -> None:
    assert asked(vault).id == asked(vault).id
    assert asked(vault, "ten").id != asked(vault).id
    assert asked(vault, caller="merchant:M-9").id != asked(vault).id
    assert len(vault.operations.list(OFFICER)) == 3


def test_a_caller_has_a_bounded_number_of_open_requests(vault: Vault) -> None:
    for number in range(MAX_OPEN):
        asked(vault, f"key-{number}")
    make = lambda: vault.generate_key(OPERATOR, "more", "merchant-signing-ec", owner="M-9")  # noqa: E731
    refusal(make, 429, "too-many-requests")
    asked(vault, "more", caller="merchant:M-9")


def test_requests_that_lapsed_keep_nobody_from_asking(world: World) -> None:
    with world.vault() as vault:
        requests = [asked(vault, f"key-{number}") for number in range(MAX_OPEN)]
    with world.vault(clock=lambda: requests[-1].expires) as vault:
        asked(vault, "more")


def test_a_request_is_still_there_after_a_restart(world: World, officers: KeyOfficers) -> None:
    with world.vault() as vault:
        request = asked(vault)
        sign_off(vault, officers, request, officers.first)
    with world.vault() as vault:
        assert [each.person for each in vault.operations.show(OPERATOR, request.id).approvals] == ["officer-1"]
        assert sign_off(vault, officers, request, officers.second).state == "DONE"


def test_a_rejection_ends_it(world: World, officers: KeyOfficers) -> None:
    with world.vault() as vault:
        request = asked(vault)
        rejection = officers.approve(request, officers.third, choice=Choice.REJECT, reason="no such shop")
        info = vault.operations.approve(OFFICER, request.id, rejection)
        assert (info.state, [each.person for each in info.rejections]) == ("REJECTED", ["officer-3"])
        late = officers.approve(request, officers.first)
        refusal(lambda: vault.operations.approve(OFFICER, request.id, late), 409, "operation-decided")
        refusal(lambda: vault.operations.execute(OPERATOR, request.id), 409, "not-approved")
        assert "nine" not in {key.name for key in vault.list_keys(CEREMONY)}
    with world.vault() as vault:
        assert vault.operations.show(OFFICER, request.id).state == "REJECTED"


def test_a_request_that_nobody_approved_in_time_is_void(world: World, officers: KeyOfficers) -> None:
    with world.vault() as vault:
        request = asked(vault)
    later = request.expires + HOUR
    with world.vault(clock=lambda: later, approving=Approving(lambda: world.pki.trust(now=later))) as vault:
        signed = officers.approve(request, officers.first, date=later)
        refusal(lambda: vault.operations.approve(OFFICER, request.id, signed), 409, "operation-decided")
        assert vault.operations.show(OFFICER, request.id).state == "EXPIRED"
        assert asked(vault).id != request.id


def test_what_cannot_be_done_any_more_fails_and_is_said_so(world: World, officers: KeyOfficers) -> None:
    with world.vault() as vault:
        request = asked(vault)
        sign_off(vault, officers, request, officers.first)
        vault.generate_key(CEREMONY, "nine", "merchant-signing-ec", owner="M-9")
        info = sign_off(vault, officers, request, officers.second)
        assert info.state == "FAILED"
        assert info.result is not None
        assert info.result["reason"] == "key-exists"
        refusal(lambda: vault.operations.execute(OPERATOR, request.id), 409, "not-approved")
    assert [each["state"] for each in world.journal() if each["event"] == "ended"] == ["FAILED"]


# -- exactly once ------------------------------------------------------------------------------------------------------


def test_the_same_approval_twice_is_one_and_done_is_done(world: World, officers: KeyOfficers) -> None:
    with world.vault() as vault:
        request = asked(vault)
        approvals = [officers.approve(request, each) for each in (officers.first, officers.second)]
        for _ in range(2):
            vault.operations.approve(OFFICER, request.id, approvals[0])
        states = [vault.operations.approve(OFFICER, request.id, approvals[1]).state for _ in range(3)]
        assert states == ["DONE"] * 3
    counted = Counter(entry["event"] for entry in world.journal() if entry.get("request") == request.id)
    assert counted == {"requested": 1, "approved": 2, "intent": 1, "ended": 1}


def test_officers_who_sign_at_once_have_it_done_once(world: World, officers: KeyOfficers) -> None:
    with world.vault() as vault, ThreadPoolExecutor(3) as pool:
        request = asked(vault)
        hands = (officers.first, officers.second, officers.third)
        signed = [officers.approve(request, each) for each in hands]

        def hand_in(der: bytes) -> str:
            try:
                return vault.operations.approve(OFFICER, request.id, der).state
            except Problem as problem:  # the third came when it was done
                return problem.type

        assert set(pool.map(hand_in, signed)) <= {"PENDING", "APPROVED", "EXECUTING", "DONE", "operation-decided"}
        assert vault.operations.show(OFFICER, request.id).state == "DONE"
    assert sum(entry["event"] == "intent" and entry.get("request") == request.id for entry in world.journal()) == 1


def test_what_the_token_kept_from_being_done_stays_approved_and_is_done_later(
    world: World, officers: KeyOfficers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.vault() as vault:
        request = asked(vault)
        sign_off(vault, officers, request, officers.first)

        def away(*_arguments: Any, **_more: Any) -> None:
            raise TokenUnavailable("the token does not answer")

        monkeypatch.setattr(Token, "generate_ec", away)
        refusal(lambda: sign_off(vault, officers, request, officers.second), 503, "token-unavailable")
        assert vault.operations.show(OFFICER, request.id).state == "APPROVED"
        monkeypatch.undo()
        done = [vault.operations.execute(OPERATOR, request.id) for _ in range(2)]
        assert done[0] == done[1]
        assert done[0].state == "DONE"
    intents = [each for each in world.journal() if each["event"] == "intent" and each.get("request") == request.id]
    assert len(intents) == 2, "one that the token failed, one that was done"


def test_approvals_are_judged_again_when_it_is_done(
    world: World, officers: KeyOfficers, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = [world.pki.trust()]
    with world.vault(approving=Approving(lambda: trust[0])) as vault:
        request = asked(vault)
        leaver = officers.officer("officer-7")

        def away(*_arguments: Any, **_more: Any) -> None:
            raise TokenUnavailable("the token does not answer")

        monkeypatch.setattr(Token, "generate_ec", away)
        refusal(lambda: sign_off(vault, officers, request, officers.first, leaver), 503, "token-unavailable")
        monkeypatch.undo()
        world.pki.revoke(leaver)
        trust[0] = world.pki.trust()
        refusal(lambda: vault.operations.execute(OPERATOR, request.id), 409, "not-approved")
        assert vault.operations.show(OFFICER, request.id).state == "PENDING"
        assert sign_off(vault, officers, request, officers.second).state == "DONE"


KILLED = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from cryptography import x509
from hsm_service.operation_docket import Approving, Docket
from hsm_service.tokens import Token
from hsm_service.vault import Vault
from pki.crl import CrlSet
from pki.path import Trust
from runtime.settings import Home

folder, request_id, moment, now = Path(sys.argv[2]), sys.argv[3], sys.argv[4], datetime.fromisoformat(sys.argv[5])
roots = x509.load_pem_x509_certificates((folder / "root.pem").read_bytes())
authorities = x509.load_pem_x509_certificates((folder / "cas.pem").read_bytes())
blocks = (folder / "crls.pem").read_text().split("-----END X509 CRL-----")[:-1]
crls = [x509.load_pem_x509_crl((block.strip() + "\\n-----END X509 CRL-----\\n").encode()) for block in blocks]
trust = Trust(tuple(roots), tuple(authorities), CrlSet(crls))

def killing(genuine, after):
    def method(*arguments, **named):
        if after:
            genuine(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    return method

if moment == "before the token was asked":
    Token.generate_ec = killing(Token.generate_ec, False)
elif moment == "after the token made it":
    Token.generate_ec = killing(Token.generate_ec, True)
else:
    Docket.end = killing(Docket.end, False)
with Vault.open(Home(Path(sys.argv[1])), clock=lambda: now, approving=Approving(lambda: trust)) as vault:
    vault.operations.approve("officer:officer-2", request_id, (folder / "approval").read_bytes())
"""


@pytest.mark.parametrize("moment", ["before the token was asked", "after the token made it", "before that was noted"])
def test_an_operation_that_a_killed_process_left_is_taken_up(
    moment: str, world: World, officers: KeyOfficers, tmp_path: Path
) -> None:
    with world.vault() as vault:
        request = asked(vault)
        sign_off(vault, officers, request, officers.first)
    world.pki.write(tmp_path)
    (tmp_path / "approval").write_bytes(officers.approve(request, officers.second))
    ended = run_python(KILLED, world.home.path, tmp_path, request.id, moment, NOW.isoformat())
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    with world.vault() as vault:
        assert vault.operations.show(OFFICER, request.id).state == "EXECUTING"
        vault.operations.resume()
        info = vault.operations.show(OFFICER, request.id)
        assert (info.state, info.result) == ("DONE", {"outcome": {"key": "nine", "version": 1}})
        assert vault.describe_key(OPERATOR, "nine").state == "ENABLED"
    with opened(world.home, "merchants") as token:
        held = token.keys()
        assert [ref.label for ref in held].count("nine") == 1
    verify(world.home.audit / "hsm.jsonl")


# -- bad input: no state changes, one record each ----------------------------------------------------------------------

Bad = Callable[[Vault, KeyOfficers, OperationRequest], bytes]
REFUSED: dict[str, tuple[Bad, int, str, str | None]] = {
    "nothing": (lambda v, o, r: b"", 422, "approval-refused", "CPS 5.2.2 APR-FORM"),
    "bytes": (lambda v, o, r: b"\x30\x80" * 99, 422, "approval-refused", "CPS 5.2.2 APR-FORM"),
    "too many bytes": (lambda v, o, r: bytes(20_000), 413, "approval-too-big", None),
    "of another request": (
        lambda v, o, r: o.approve(asked(v, "other"), o.first),
        422,
        "approval-refused",
        "CPS 5.2.2 APR-REQUEST",
    ),
    "naming another operation": (
        lambda v, o, r: o.approve(r, o.first, operation="destroy"),
        422,
        "approval-refused",
        "CPS 5.2.2 APR-OPERATION",
    ),
    "expired": (
        lambda v, o, r: o.approve(r, o.first, date=NOW, expires=NOW + HOUR / 3600, signing_time=NOW + HOUR),
        422,
        "approval-refused",
        "CPS 5.2.2 APR-TIME",
    ),
    "by a vetting officer": (
        lambda v, o, r: o.approve(r, o.officer("officer-9", "vetting_officer")),
        422,
        "approval-refused",
        "CPS 5.2.1 APR-ROLE",
    ),
    "by a service": (
        lambda v, o, r: o.approve(r, o.pki.service("operator")),
        422,
        "approval-refused",
        "CPS 5.2.1 APR-ROLE",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_approval_that_does_not_count_changes_nothing(name: str, world: World, officers: KeyOfficers) -> None:
    make, status, slug, clause = REFUSED[name]
    with world.vault() as vault:
        request = asked(vault)
        signed = make(vault, officers, request)
        before, size = vault.operations.show(OFFICER, request.id), len(world.journal())
        problem = refusal(lambda: vault.operations.approve(OFFICER, request.id, signed), status, slug)
        assert problem.clause == clause
        assert vault.operations.show(OFFICER, request.id) == before
    (entry,) = world.journal()[size:]
    assert (entry["event"], entry["operation"], entry["reason"], entry["rule"]) == ("refused", "approve", slug, clause)


# -- keys whose every use is approved ----------------------------------------------------------------------------------


@pytest.fixture
def strict() -> Policy:
    """The policy, but for messages of shops: each needs two officers."""
    return _with_use("merchant-signing-ec", Operation.CMS)


def _with_use(template: str, operation: Operation) -> Policy:
    policy = built_in_policy()
    requirement = policy.operations[KeyOperation.GENERATE]
    return policy.model_copy(update={"use": {**policy.use, template: {operation: requirement}}})


def test_each_signature_of_such_a_key_is_approved_by_the_digest_of_its_structure(
    world: World, officers: KeyOfficers, strict: Policy
) -> None:
    content, other = acknowledgement(), bytes(reversed(acknowledgement()))
    with world.vault(approving=Approving(world.pki.trust, strict)) as vault:

        def sign(structure: bytes = content) -> bytes:
            return vault.sign_cms(SHOP, "shop-ec", ACK, structure).signed

        with pytest.raises(ApprovalNeeded) as needed:
            sign()
        request = parse_request(needed.value.operation.request)
        assert request.operation is KeyOperation.USE
        assert sign_off(vault, officers, request).state == "APPROVED"
        refusal(lambda: vault.operations.execute(SHOP, request.id), 409, "not-approved")
        refusal(lambda: sign(other), 422, "content-refused")
        assert sign()
        assert vault.operations.show(OFFICER, request.id).state == "DONE"
        vault.sign_cms(SHOP, "shop", ACK, content)  # a key of another template
        batch = [SignCommand("cms", content, ACK)]
        refusal(lambda: vault.run(vault.signing.sign_many(SHOP, "shop-ec", batch)), 409, "approved-singly")
        with pytest.raises(Problem) as again:
            sign()
        assert again.value.type in {"approval-needed", "operation-decided"}, "one approval, one signature"
    intents = [entry for entry in world.journal() if entry["event"] == "intent" and entry.get("request") == request.id]
    assert [each["input_sha256"] for each in intents] == [request.parameters["input_sha256"]]


def test_a_use_that_the_keys_rate_kept_from_being_done_stays_approved(
    world: World, officers: KeyOfficers, strict: Policy
) -> None:
    now = [NOW]
    approving = Approving(world.pki.trust, strict)
    with world.vault(approving=approving, clock=lambda: now[0]) as vault:
        vault.life.limit(CEREMONY, "shop-ec", 1, {"rate": 1.0, "burst": 1})
        with pytest.raises(ApprovalNeeded) as needed:
            vault.sign_cms(SHOP, "shop-ec", ACK, acknowledgement())
        request = parse_request(needed.value.operation.request)
        sign_off(vault, officers, request)
        vault.signing._meter.admit_key(vault.key("shop-ec"), NOW)  # another use
        refusal(lambda: vault.sign_cms(SHOP, "shop-ec", ACK, acknowledgement()), 429, "key-rate")
        assert vault.operations.show(OFFICER, request.id).state == "APPROVED"
        now[0] += timedelta(seconds=1)
        assert vault.sign_cms(SHOP, "shop-ec", ACK, acknowledgement())


def test_the_use_that_a_killed_process_left_is_not_signed_again(
    world: World, officers: KeyOfficers, strict: Policy
) -> None:
    with world.vault(approving=Approving(world.pki.trust, strict)) as vault:
        with pytest.raises(ApprovalNeeded) as needed:
            vault.sign_cms(SHOP, "shop-ec", ACK, acknowledgement())
        request = parse_request(needed.value.operation.request)
        sign_off(vault, officers, request)
        digest = str(request.parameters["input_sha256"])
        vault.operations.use(SHOP, "merchant-signing-ec", "cms", "shop-ec/1", digest)  # and the process dies
    with world.vault(approving=Approving(world.pki.trust, strict)) as vault:
        vault.operations.resume()
        info = vault.operations.show(OFFICER, request.id)
        assert info.state == "FAILED"
        assert info.result is not None
        assert info.result["reason"] == "interrupted"


def test_a_policy_that_changed_makes_what_was_asked_void(world: World, officers: KeyOfficers) -> None:
    with world.vault() as vault:
        request = asked(vault)
        sign_off(vault, officers, request, officers.first)
    changed = built_in_policy().model_copy(update={"digest": "0" * 64})
    with world.vault(approving=Approving(world.pki.trust, changed)) as vault:
        signed = officers.approve(request, officers.second)
        refusal(lambda: vault.operations.approve(OFFICER, request.id, signed), 409, "operation-decided")
        assert vault.operations.show(OFFICER, request.id).state == "VOID"


def test_a_store_whose_rows_were_altered_is_not_opened(world: World) -> None:
    with world.vault() as vault:
        request = asked(vault)
    engine = open_database(world.home.db / "keys.db")
    with engine.begin() as connection:
        forged = request.canonical.replace(b"M-9", b"M-1")
        connection.exec_driver_sql("UPDATE operation_requests SET request = ?", (forged,))
    with pytest.raises(Exception, match="another request"):
        OperationStore(engine)
    engine.dispose()
