"""`kwbp cps replay` without dossiers: every case of a registration authority in service, under a draft."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.ca_world import write_hierarchy
from tests.support.cps_cases import csr
from tests.support.officers_desk import Desk, officers_desk
from tests.support.publications import pack_text
from tests.support.ra_world import ANONYMOUS, OPERATOR


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """An installation whose RA has a case of each fate, and drafts that nobody submitted."""
    with officers_desk(tmp_path_factory.mktemp("desk")) as made:
        world, pki = made.world, made.world.office.pki
        write_hierarchy(pki, made.home.pki)
        for authority in pki.authorities:
            crl = authority.crl(pki.now).public_bytes(Encoding.DER)
            (made.home.pki / "crls" / f"{authority.role}.crl").write_bytes(crl)
        world.certified_merchant(merchant_id="M-certified")
        strong = csr(ec.generate_private_key(ec.SECP384R1()))
        approved = world.open_merchant(merchant_id="M-strong", csrs={"signing": strong})
        world.decide(approved.id, "vet", world.office.vetter)
        refused = world.open_merchant(merchant_id="M-rejected")
        world.reject(refused.id, "vet", world.office.vetter)
        world.open_merchant(merchant_id="M-waiting", documents=())
        world.workflow.withdraw(OPERATOR, world.workflow.open(OPERATOR, "merchant").id, "another day")
        world.workflow.open(ANONYMOUS, "cardholder")
        yield made


def replayed(desk: Desk, folder: Path, changes: dict[str, str], *options: str) -> dict[str, Any]:
    draft = folder / "draft.yaml"
    effective = datetime.now(UTC) + timedelta(hours=1)
    draft.write_text(pack_text("1.1.0", effective=effective, changes=changes), encoding="utf-8")
    answer: dict[str, Any] = desk.answer("cps", "replay", str(draft), *options)
    return answer


def by_subject(desk: Desk, found: dict[str, Any]) -> dict[str | None, tuple[str, str]]:
    store = desk.world.store
    return {
        store.application(each["case"]).subject_id: (each["was"].split()[0].rstrip(":"), each["becomes"].split()[0])
        for each in found["differences"]
    }


def test_every_submitted_case_is_judged_and_those_that_the_draft_refuses_are_told(desk: Desk, tmp_path: Path) -> None:
    found = replayed(desk, tmp_path, {"ec: [P-256, P-384]": "ec: [P-384]"})
    assert (found["cases"], found["changed"], found["not_judged"]) == (4, 2, 0)
    assert found["by_clause"] == {"CPS 6.1.5 KEY-SIZE": 2}
    assert by_subject(desk, found) == {
        "M-certified": ("approved", "refused"),
        "M-waiting": ("pending", "refused"),
    }


def test_no_case_is_left_out_however_many_pages_there_are(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.cps_replay._PAGE", 2)
    found = replayed(desk, tmp_path, {}, "--all")
    assert (found["cases"], found["changed"]) == (4, 0)
    assert set(by_subject(desk, found)) == {"M-certified", "M-strong", "M-rejected", "M-waiting"}


def test_a_person_reads_how_many_and_by_what(desk: Desk, tmp_path: Path) -> None:
    replayed(desk, tmp_path, {"ec: [P-256, P-384]": "ec: [P-384]"})
    done = desk.run("cps", "replay", str(tmp_path / "draft.yaml"))
    assert "2 of 4 cases would be decided differently." in done.output
    assert "2 by CPS 6.1.5 KEY-SIZE" in done.output
