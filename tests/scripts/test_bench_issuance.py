"""The parts of `scripts/bench issuance`: founding two installations takes minutes. No figure is judged here."""

from __future__ import annotations

from pathlib import Path

import pytest

from ca.api import IssueManyRequest
from cps.dossier import Dossier
from pki.oids import CT_DECISION
from scripts.benchmarks.cardholder_cases import BIN, approval, undecided
from scripts.benchmarks.issuance import BATCH, _batches
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office


@pytest.fixture(scope="module")
def office() -> Office:
    return Office()


def made(office: Office) -> Dossier:
    bank = office.pki.service(f"issuer-{BIN}")
    case = undecided(bank.key, bank.certificate, bank.chain, office.now)
    return case.with_decision(office.ra.sign(CT_DECISION, approval(case, office.now)))


def test_a_case_that_is_made_for_it_is_one_that_the_authority_issues(office: Office, tmp_path: Path) -> None:
    cases = [made(office) for _ in range(2)]
    world = CaWorld(tmp_path, office)
    try:
        [body] = _batches(cases)
        answers = world.authority.issuance.issue_many(IssueManyRequest.model_validate_json(body).dossiers)
    finally:
        world.close()

    commitments = [case.revision.subject.commitment for case in cases]
    assert commitments[0] != commitments[1]
    assert [answer["signing"].identity for answer in answers if isinstance(answer, dict)] == commitments


def test_all_cases_are_in_batches_and_none_is_larger_than_it_says(office: Office) -> None:
    case = made(office)
    sizes = [len(IssueManyRequest.model_validate_json(body).dossiers) for body in _batches([case] * (BATCH + 1))]
    assert sizes == [BATCH, 1]
