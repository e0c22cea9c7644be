"""The RA's part of a self-audit: an honest case keeps every check; whatever was changed on record is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cps.register import PackRegister
from ra import story
from ra.case_audit import CHECKS, NOT_JUDGED, CaseAuditReport, CaseExhibit, Open, finding, look
from tests.support.cps_cases import Office
from tests.support.pki_factory import Key, p256
from tests.support.ra_world import OPERATOR, RaWorld


@pytest.fixture(scope="module")
def key() -> Key:
    return p256()


@pytest.fixture(scope="module")
def exhibit(tmp_path_factory: pytest.TempPathFactory, key: Key) -> CaseExhibit:
    """What is on record about a merchant that was certified and has accepted by signature."""
    world = RaWorld(tmp_path_factory.mktemp("world"), Office())
    application = world.certified_merchant(key=key)
    world.workflow.accept(OPERATOR, application.id, world.acceptance(application.id, key))
    (issued,) = world.store.certificates(application.id)
    case = world.workflow.dossier(world.store.application(application.id))
    lines = [json.loads(line) for line in world.journal.read_text().splitlines()]
    made = CaseExhibit(
        issuer=issued.issuer,
        serial=issued.serial,
        now=world.now,
        story=story.of_application(world.workflow, OPERATOR, application.id),
        dossier=case,
        bodies={each.sha256: world.store.evidence_body(application.id, each.sha256) for each in case.evidence},
        lines={line["index"]: line["entry"] for line in lines},
        register=PackRegister((world.office.pack,)),
        trust=world.trust_source(),
    )
    world.close()
    return made


def broken(exhibit: CaseExhibit) -> dict[str, str]:
    return {name: outcome for name, outcome in look(exhibit).items() if isinstance(outcome, str)}


def test_an_honest_case_keeps_every_check(exhibit: CaseExhibit) -> None:
    assert look(exhibit) == dict.fromkeys(CHECKS)


def another_body(exhibit: CaseExhibit) -> CaseExhibit:
    return replace(exhibit, bodies=dict.fromkeys(exhibit.bodies, b"something else"))


def no_body(exhibit: CaseExhibit) -> CaseExhibit:
    return replace(exhibit, bodies={})


def forged_decision(exhibit: CaseExhibit) -> CaseExhibit:
    first, *others = exhibit.dossier.decisions
    changed = (first[:-1] + bytes([first[-1] ^ 1]), *others)
    return replace(exhibit, dossier=exhibit.dossier.model_copy(update={"decisions": changed}))


def one_decision_less(exhibit: CaseExhibit) -> CaseExhibit:
    decisions = exhibit.dossier.decisions[:1]
    return replace(exhibit, dossier=exhibit.dossier.model_copy(update={"decisions": decisions}))


def another_actor(exhibit: CaseExhibit) -> CaseExhibit:
    told = exhibit.story
    steps = tuple(each.model_copy(update={"actor": "officer:nobody"}) for each in told.transitions)
    return replace(exhibit, story=told.model_copy(update={"transitions": steps}))


def unlogged(exhibit: CaseExhibit) -> CaseExhibit:
    told = exhibit.story
    steps = tuple(each.model_copy(update={"journal_index": None}) for each in told.transitions)
    return replace(exhibit, story=told.model_copy(update={"transitions": steps}))


def another_revision(exhibit: CaseExhibit) -> CaseExhibit:
    subject = exhibit.dossier.revision.subject.model_copy(update={"name": "Another"})
    revision = exhibit.dossier.revision.model_copy(update={"subject": subject})
    return replace(exhibit, dossier=exhibit.dossier.model_copy(update={"revision": revision}))


def not_accepted_in_time(exhibit: CaseExhibit) -> CaseExhibit:
    return replace(
        exhibit,
        story=exhibit.story.model_copy(update={"acceptance": None}),
        now=exhibit.now + timedelta(days=30),
    )


def unknown_to_the_ca(exhibit: CaseExhibit) -> CaseExhibit:
    return replace(exhibit, story=exhibit.story.model_copy(update={"records": {}}))


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (another_body, "evidence"),
        (no_body, "evidence"),
        (forged_decision, "signatures"),
        (one_decision_less, "judgement"),
        (another_actor, "log"),
        (unlogged, "log"),
        (another_revision, "case"),
        (another_revision, "judgement"),
        (not_accepted_in_time, "acceptance"),
        (unknown_to_the_ca, "case"),
    ],
)
def test_what_was_changed_is_found(
    exhibit: CaseExhibit, change: Callable[[CaseExhibit], CaseExhibit], check: str
) -> None:
    assert check in broken(change(exhibit))


def test_an_acceptance_of_another_case_is_found(exhibit: CaseExhibit) -> None:
    assert exhibit.story.acceptance is not None
    acceptance = exhibit.story.acceptance.model_copy(update={"signed": exhibit.dossier.decisions[0]})
    told = exhibit.story.model_copy(update={"acceptance": acceptance})
    assert "acceptance" in broken(replace(exhibit, story=told))


def test_what_cannot_be_told_is_left_open_and_said(exhibit: CaseExhibit) -> None:
    elsewhere = look(replace(exhibit, lines={}))["log"]
    assert elsewhere == Open("the log of another replica has it")
    pin = exhibit.dossier.revision.cps.model_copy(update={"version": "9.9.9", "digest": b"\0" * 32})
    revision = exhibit.dossier.revision.model_copy(update={"cps": pin})
    unknown = replace(exhibit, dossier=exhibit.dossier.model_copy(update={"revision": revision}))
    assert look(unknown)["judgement"] == Open("the rules of version 9.9.9 are not here")


def test_the_report_signs_what_it_found(exhibit: CaseExhibit) -> None:
    fields: dict[str, Any] = {
        "made_at": exhibit.now,
        "since": exhibit.now - timedelta(days=1),
        "until": exhibit.now,
        "seed": "00" * 8,
        "share": 0.03,
        "least": 20,
        "issued": 1,
        "sampled": 1,
        "sample_sha256": "ab" * 32,
        "statement": "cd" * 32,
        "checks": {},
        "findings": (finding(exhibit, "log", "another"),),
        "ca_report_sha256": "ef" * 32,
    }
    report = CaseAuditReport(**fields)
    assert report.not_judged == NOT_JUDGED
    assert (report.summary().findings, report.summary().sampled) == (1, 1)
    assert report.summary() != report.model_copy(update={"findings": ()}).summary()
    assert CaseAuditReport.model_validate_json(report.to_json()) == report
