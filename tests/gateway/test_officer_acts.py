"""Officers act by signed statements: each about one act, once, in time, by who holds a role; others are refused."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import delete

from audit.journal import Journal
from cps.gateway_act import LASTS, GatewayAct, build_gateway_act, parse_gateway_act
from gateway.operating import officer_acts
from gateway.operating.officer_acts import OfficerActs
from gateway.operating.tables import officer_statements
from gateway.store import OrderStore
from pki.extensions import RoleGrant
from pki.oids import CT_DECISION, CT_GATEWAY_ACT
from pki.path import Trust
from runtime.identity import Caller
from runtime.problems import Problem
from tests.gateway.conftest import Clock, run
from tests.support.pki_factory import NOW, Credential, PkiFactory

CONSOLE, GATEWAY = Caller("service", "operator"), "GW-1"
TARGET, BODY = "/v1/orders/00/confirmation", b'{"outcome":"debited"}'
ACT = GatewayAct(GATEWAY, "POST", TARGET, sha256(BODY).digest(), b"n" * 16, NOW, NOW + LASTS)


@pytest.fixture(scope="module")
def pki() -> PkiFactory:
    return PkiFactory()


@pytest.fixture(scope="module")
def officer(pki: PkiFactory) -> Credential:
    return pki.officer("security-officer-1", roles=("security_officer",))


class Desk:
    """A gateway's side of statements."""

    def __init__(self, book: OrderStore, folder: Path, pki: PkiFactory) -> None:
        self.clock = Clock(NOW)
        self.bodies_read = 0
        self.book, self.pki, self.path = book, pki, folder / "gateway.jsonl"
        self.journal = Journal.open(self.path)
        self.acts = OfficerActs(book, self.journal, self, gateway_id=GATEWAY, clock=self.clock)

    async def trust(self, now: Any) -> Trust:
        return self.pki.trust(now)

    def judge(self, statement: bytes, *, carrier: Caller = CONSOLE, **changes: Any) -> Caller:
        act: dict[str, Any] = {"method": "POST", "target": TARGET, "body": BODY, "for_": ("officer:*",)} | changes
        body, patterns = act.pop("body"), act.pop("for_")

        async def read() -> bytes:
            self.bodies_read += 1
            return bytes(body)

        return run(self.acts.judge(carrier, base64.b64encode(statement).decode(), *patterns, **act, read=read))

    def refused(self, why: str, statement: bytes, **how: Any) -> None:
        kept = self.acts.list(50)
        with pytest.raises(Problem) as refusal:
            self.judge(statement, **how)
        assert refusal.value.status == 403
        assert why in refusal.value.detail
        assert self.acts.list(50) == kept


@pytest.fixture
def desk(book: OrderStore, tmp_path: Path, pki: PkiFactory) -> Iterator[Desk]:
    made = Desk(book, tmp_path, pki)
    with made.journal:
        yield made


def signed(by: Credential, act: GatewayAct = ACT, **how: Any) -> bytes:
    return by.sign(CT_GATEWAY_ACT, build_gateway_act(act), **how)


def test_a_statement_makes_the_officer_the_caller_and_is_kept_as_evidence(desk: Desk, officer: Credential) -> None:
    statement = signed(officer)
    assert str(desk.judge(statement)) == "officer:security-officer-1"
    (row,) = desk.acts.list(50)
    assert (row.person, row.target, row.body, row.statement) == ("security-officer-1", TARGET, BODY, statement)
    entries = [json.loads(line)["entry"] for line in desk.path.read_text().splitlines() if "officer-statement" in line]
    assert [(each["by"], each["sha256"]) for each in entries] == [
        ("officer:security-officer-1", sha256(statement).hexdigest())
    ]
    with pytest.raises(Exception, match="append-only"):
        run(desk.book.writer.run(lambda connection: connection.execute(delete(officer_statements))))


def test_over_the_officers_own_connection_it_counts_too_and_over_anothers_not(desk: Desk, officer: Credential) -> None:
    assert desk.judge(signed(officer), carrier=Caller("officer", "security-officer-1")).name == "security-officer-1"
    other = signed(officer, replace(ACT, nonce=b"m" * 16))
    desk.refused("another officer", other, carrier=Caller("officer", "security-officer-2"))
    desk.refused("operator's connection", other, carrier=Caller("merchant", "M-1"))


def test_a_statement_counts_once_and_a_new_one_about_the_same_act_again(desk: Desk, officer: Credential) -> None:
    statement = signed(officer)
    desk.judge(statement)
    desk.refused("came before", statement)
    desk.refused("came before", signed(officer))  # signed anew over the same nonce
    desk.judge(signed(officer, replace(ACT, nonce=b"m" * 16)))


@pytest.mark.parametrize(
    ("came", "changed"),
    [
        ("the order", {"target": "/v1/orders/01/confirmation"}),
        ("the query", {"target": f"{TARGET}?merchant_id=M-2"}),
        ("the outcome", {"body": b'{"outcome":"reversed"}'}),
        ("no body", {"body": b""}),
        ("the method", {"method": "DELETE"}),
    ],
)
def test_a_statement_about_another_act_counts_for_nothing(
    desk: Desk, officer: Credential, came: str, changed: dict[str, Any]
) -> None:
    desk.refused("another act", signed(officer), **changed)
    desk.judge(signed(officer))  # and is not used up by it


def test_a_statement_for_another_gateway_is_none_here(desk: Desk, officer: Credential) -> None:
    desk.refused("another gateway", signed(officer, replace(ACT, gateway="GW-2")))


def test_anothers_signature_under_an_officers_certificate_is_refused(
    desk: Desk, pki: PkiFactory, officer: Credential
) -> None:
    other = pki.officer("security-officer-2", roles=("security_officer",))
    assert desk.judge(signed(other)).name == "security-officer-2"  # nobody else, whoever brings it
    theirs, ours = signed(other), other.certificate.public_bytes(Encoding.DER)
    desk.refused("does not count", theirs.replace(ours, officer.certificate.public_bytes(Encoding.DER)))
    changed = bytearray(signed(officer))
    changed[-1] ^= 1
    desk.refused("does not count", bytes(changed))
    desk.refused("does not count", b"no statement")


def test_another_hierarchys_officer_is_nobody(desk: Desk) -> None:
    desk.refused("does not count", signed(PkiFactory().officer("security-officer-1", roles=("security_officer",))))


def test_a_statement_of_another_kind_is_none(desk: Desk, officer: Credential) -> None:
    desk.refused("does not count", officer.sign(CT_DECISION, build_gateway_act(ACT)))


def test_a_service_or_merchant_cannot_sign_for_an_officer(desk: Desk, pki: PkiFactory) -> None:
    desk.refused("no officer", signed(pki.service("operator")))
    desk.refused("does not count", signed(pki.merchant("M-1", acquirer_bin="603799")))


def test_a_statement_is_refused_when_it_is_late_early_or_long(desk: Desk, officer: Credential) -> None:
    statement = signed(officer)
    desk.clock.now = NOW + LASTS
    desk.refused("lapsed", statement)
    desk.clock.now = NOW - timedelta(seconds=31)
    desk.refused("is of", statement)
    desk.clock.now = NOW
    desk.refused("at most", signed(officer, replace(ACT, expires=NOW + LASTS + timedelta(seconds=1))))
    desk.refused("at most", signed(officer, replace(ACT, expires=NOW)))
    desk.judge(statement)


def test_a_revoked_officer_is_nobody_from_that_moment_on(desk: Desk, pki: PkiFactory) -> None:
    leaving = pki.officer("security-officer-9", roles=("security_officer",))
    desk.judge(signed(leaving))
    pki.revoke(leaving)
    desk.refused("revoked", signed(leaving, replace(ACT, nonce=b"m" * 16)))


@pytest.mark.parametrize("role", ["auditor", "vetting_officer", "approving_officer", "no_such_role"])
def test_an_officer_of_another_role_may_not_act(desk: Desk, pki: PkiFactory, role: str) -> None:
    desk.refused("may look", signed(pki.officer(f"of-{role.replace('_', '-')}", roles=(role,))))


def test_a_granted_role_counts_while_it_is_held_and_for_everything(desk: Desk, pki: PkiFactory) -> None:
    def granted(person: str, begins: timedelta, scope: tuple[str, ...] | None = None) -> Credential:
        until = NOW + begins + timedelta(days=1)
        grant = RoleGrant("security_officer", scope, NOW + begins, until)
        return pki.officer(person, roles=(), grants=(grant,))

    assert desk.judge(signed(granted("stands-in", timedelta(hours=-1)))).name == "stands-in"
    desk.refused("may look", signed(granted("not-yet", timedelta(hours=1))))
    desk.refused("may look", signed(granted("merchants-only", timedelta(hours=-1), ("merchant",))))


def test_nobodys_body_is_read_before_who_signed_is_believed(desk: Desk, pki: PkiFactory, officer: Credential) -> None:
    """A settlement list may have 64 MiB: who may not send one has none of it read."""
    desk.refused("operator's connection", signed(officer), carrier=Caller("merchant", "M-1"))
    desk.refused("does not count", b"no statement")
    desk.refused("may look", signed(pki.officer("an-auditor", roles=("auditor",))))
    desk.refused("another act", signed(officer), target="/v1/settlement-lists")
    assert desk.bodies_read == 0


def test_a_statement_where_officers_do_not_act_is_not_kept(desk: Desk, officer: Credential) -> None:
    desk.refused("may not do this", signed(officer), for_=("service:operator",))
    assert desk.bodies_read == 0


def test_one_person_fills_no_disk_with_statements(
    desk: Desk, pki: PkiFactory, officer: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(officer_acts, "MOST", 3)
    another_key = pki.officer("security-officer-1", roles=("security_officer",))
    for number, credential in enumerate((officer, another_key, officer)):
        desk.judge(signed(credential, replace(ACT, nonce=bytes([number]) * 16)))
    fourth = signed(another_key, replace(ACT, nonce=b"4" * 16))
    with pytest.raises(Problem) as refusal:
        desk.judge(fourth)
    assert (refusal.value.status, len(desk.acts.list(50))) == (429, 3)
    desk.judge(signed(pki.officer("security-officer-2", roles=("security_officer",))))
    desk.clock.now = NOW + officer_acts.WITHIN
    later = replace(ACT, nonce=b"5" * 16, date=desk.clock.now, expires=desk.clock.now + LASTS)
    desk.judge(signed(officer, later, signing_time=desk.clock.now))


def test_replicas_take_one_statement_once_between_them(desk: Desk, officer: Credential) -> None:
    statement = base64.b64encode(signed(officer)).decode()
    other = OfficerActs(desk.book, desk.journal, desk, gateway_id=GATEWAY, clock=desk.clock)

    async def read() -> bytes:
        return BODY

    async def at_once() -> list[Any]:
        asked = (
            each.judge(CONSOLE, statement, "officer:*", method="POST", target=TARGET, read=read)
            for each in (desk.acts, other, desk.acts, other)
        )
        return await asyncio.gather(*asked, return_exceptions=True)

    assert sorted(type(each).__name__ for each in run(at_once())) == ["Caller", "Problem", "Problem", "Problem"]
    assert len(desk.acts.list(50)) == 1


@pytest.mark.parametrize("other", ["//v1/orders/00/confirmation", "/v1/orders%2F00/confirmation", f"{TARGET}?", "/v1"])
def test_the_path_is_what_travels_and_no_other_spelling_of_it(desk: Desk, officer: Credential, other: str) -> None:
    desk.refused("another act", signed(officer), target=other)


def test_the_body_is_its_bytes_and_not_what_they_mean(desk: Desk, officer: Credential) -> None:
    desk.refused("another act", signed(officer), body=b'{"outcome": "debited"}')


def test_a_tls_certificate_that_names_somebody_else_acts_for_nobody(pki: PkiFactory) -> None:
    made = pki.officer("security-officer-1", roles=("security_officer",)).certificate
    officer_acts._require_role(Caller("officer", "security-officer-1", made), NOW)
    with pytest.raises(Problem, match="names no officer"):
        officer_acts._require_role(Caller("officer", "security-officer-2", made), NOW)


def test_an_act_is_read_as_it_was_built() -> None:
    assert parse_gateway_act(build_gateway_act(ACT)) == ACT
