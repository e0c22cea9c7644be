"""`kwbp ra est-code`: a case is prepared, its one-time code is shown once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ra.est import EstDesk
from ra.est_answer import Waiting
from tests.support.cps_cases import csr
from tests.support.officers_desk import Desk, officers_desk
from tests.support.pki_factory import p256
from tests.support.ra_world import OPERATOR, merchant_subject


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with officers_desk(tmp_path_factory.mktemp("desk")) as made:
        yield made


def subject(folder: Path, merchant_id: str) -> str:
    path = folder / "shop.json"
    path.write_text(json.dumps(merchant_subject(merchant_id=merchant_id)))
    return str(path)


def test_a_machine_can_enrol_with_what_is_shown(desk: Desk, tmp_path: Path) -> None:
    made = desk.answer("ra", "est-code", "--subject", subject(tmp_path, "M-est"))
    assert made["path"] == "/.well-known/est/merchant/simpleenroll"
    est = EstDesk(desk.world.workflow)
    assert isinstance(est.enrol("merchant", made["application"], made["code"], csr(p256())), Waiting)


def test_a_person_reads_the_code_in_groups(desk: Desk, tmp_path: Path) -> None:
    draft = desk.world.workflow.open(OPERATOR, "merchant")
    text = desk.shown("ra", "est-code", draft.id[:8], "--subject", subject(tmp_path, "M-groups"))
    (line,) = [each for each in text.splitlines() if "one-time code" in each]
    code = line.rpartition(" ")[2]
    assert [len(group) for group in code.split("-")] == [4] * 8
    assert draft.id in text
    est = EstDesk(desk.world.workflow)
    assert isinstance(est.enrol("merchant", draft.id, code, csr(p256())), Waiting)


def test_what_cannot_be_prepared_says_why(desk: Desk, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("[]")
    assert "holds no JSON object" in desk.refused("ra", "est-code", "--subject", str(bad))
    good = subject(tmp_path, "M-bad")
    assert "no class of members is bank" in desk.refused("ra", "est-code", "--class", "bank", "--subject", good)
    assert "two requests" in str(desk.run("ra", "est-code", "--class", "gateway", "--subject", good).exception)
    ended = desk.world.workflow.open(OPERATOR, "merchant").id
    desk.world.workflow.withdraw(OPERATOR, ended, "")
    assert "kwbp ra show" in desk.refused("ra", "est-code", ended, "--subject", good)
