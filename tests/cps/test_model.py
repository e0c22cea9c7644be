"""Loading a policy pack: the published one, and packs with one thing wrong."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from datetime import timedelta
from importlib.resources import files
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from cps.errors import PackError
from cps.model import load_pack
from cps.packs import published
from cps.rules import Rule

TEXT = files("cps.packs").joinpath("kwbp-cps-1.0.0.yaml").read_text(encoding="utf-8")


_DOCUMENT = yaml.load(TEXT, Loader=yaml.BaseLoader)  # noqa: S506  # a loader that makes nothing but text


def document() -> dict[str, Any]:
    loaded = deepcopy(_DOCUMENT)
    assert isinstance(loaded, dict)
    return loaded


def test_the_published_pack_has_the_four_classes_and_their_steps() -> None:
    pack = published()
    assert {name: [step.name for step in rule.steps] for name, rule in pack.classes.items()} == {
        "cardholder": ["auto", "review"],
        "merchant": ["vet", "approve"],
        "gateway": ["vet", "approve", "release"],
        "officer": ["sponsor", "approve"],
    }
    approve = pack.classes["gateway"].steps[1]
    assert (approve.by, approve.count, approve.excluded) == (("approving_officer",), 2, ("author", "vet", "same_org"))
    assert approve.expires == timedelta(days=2)
    assert pack.classes["gateway"].key.attested_in_token
    assert pack.revocation["keyCompromise"].denylist_key


def test_every_rule_has_a_section_and_a_text() -> None:
    pack = published()
    assert set(pack.rules) == set(Rule)
    assert pack.clause(Rule.SOD_AUTHOR) == "CPS 5.2.4"


def test_the_digest_is_over_the_canonical_document_so_comments_and_layout_do_not_matter() -> None:
    respelled = yaml.safe_dump(yaml.safe_load(TEXT.replace("2026-01-01T00:00:00Z", '"2026-01-01T00:00:00Z"')))
    assert load_pack(respelled).digest == published().digest
    changed = load_pack(TEXT.replace("max_age: P30D", "max_age: P31D"))
    assert changed.digest != published().digest


def test_the_digest_can_be_recomputed_with_common_tools() -> None:
    plain = yaml.safe_load(TEXT.replace("2026-01-01T00:00:00Z", '"2026-01-01T00:00:00Z"'))
    canonical = json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).digest() == published().digest


def test_a_pack_is_frozen() -> None:
    with pytest.raises(ValidationError):
        published().cps.version = "2"


def test_risk_is_the_base_plus_the_weight_of_each_observation() -> None:
    pack = published()
    assert pack.risk_of(()) == 10
    assert pack.risk_of(("commitment_certified_before", "rejected_before")) == 70
    assert pack.risk_of(("never_heard_of",)) == 10


def test_exclusive_roles_are_named_only_when_held_together() -> None:
    pack = published()
    assert pack.exclusive_roles(frozenset({"vetting_officer", "security_officer"})) == frozenset()
    assert pack.exclusive_roles(frozenset({"vetting_officer", "auditor", "applicant"})) == {
        "vetting_officer",
        "auditor",
    }


def _change(path: str, value: object) -> str:
    """The published pack with one place changed; `path` is dotted, list places by number."""
    pack: Any = document()
    node = pack
    *parents, last = path.split(".")
    for key in parents:
        node = node[int(key) if isinstance(node, list) else key]
    if isinstance(node, list):
        node[int(last)] = value
    else:
        node[last] = value
    return json.dumps(pack)


def _without(path: str) -> str:
    """The published pack without one place."""
    pack: Any = document()
    node = pack
    *parents, last = path.split(".")
    for key in parents:
        node = node[key]
    del node[last]
    return json.dumps(pack)


STEP = {"name": "vet", "by": "vetting_officer"}
_REKEY_CHECKED = _change(
    "classes.merchant.rekey.evidence",
    [
        {"kind": "old_key", "form": "possession", "max_age": "P7D"},
        {"kind": "owner", "form": "check", "max_age": "P7D"},
    ],
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("cps: [", "not YAML", id="broken-yaml"),
        pytest.param(b"\xff\xfe\xff", "not YAML", id="not-utf-8"),
        pytest.param("- a list", "a mapping", id="not-a-mapping"),
        pytest.param("cps: {id: a, id: b}", "a key stands twice", id="duplicate-key"),
        pytest.param("a: &x 1\nb: *x", "alias", id="alias"),
        pytest.param(_change("digest", "00"), "never given", id="digest-given"),
        pytest.param(_change("unknown", "1"), "unknown: Extra inputs", id="unknown-key"),
        pytest.param(_change("cps.effective", "2026-01-01T00:00:00"), "cps.effective", id="naive-date"),
        pytest.param(_change("exclusive.0", ["ghost"]), "exclusive names", id="unknown-exclusive-role"),
        pytest.param(_change("classes.merchant.steps.0.by", "ghost"), "steps.vet.by names", id="unknown-step-role"),
        pytest.param(_change("classes.merchant.steps.0.not", ["approve"]), "vet.not names", id="excludes-later-step"),
        pytest.param(_change("classes.merchant.steps.1", STEP), "vet is taken", id="step-name-twice"),
        pytest.param(_change("classes.merchant.steps.0.name", "author"), "author is taken", id="step-named-author"),
        pytest.param(_change("classes.merchant.steps", []), "classes.merchant.steps", id="no-steps"),
        pytest.param(_change("classes.merchant.steps.0.count", "0"), "steps.0.count", id="no-persons"),
        pytest.param(_change("classes.merchant.steps.0.when", "risk"), "a condition reads", id="bad-condition"),
        pytest.param(_change("classes.merchant.steps.0.when", 7), "steps.0.when", id="condition-no-text"),
        pytest.param(_change("classes.cardholder.steps.0.count", "2"), "once by the system", id="system-twice"),
        pytest.param(
            _change("classes.cardholder.steps.0.by", ["system", "auditor"]), "once by the system", id="system-or-person"
        ),
        pytest.param(_change("classes.merchant.key", {"inherit": "x"}), "key.inherit names", id="unknown-key-rule"),
        pytest.param(
            _change("classes.merchant.key", {"attested_in_token": "true"}), "needs evidence", id="attested-not-shown"
        ),
        pytest.param(
            _change("classes.merchant.validity.not_beyond", "card_expiry"), "needs evidence", id="expiry-not-shown"
        ),
        pytest.param(_change("classes.merchant.evidence.1.kind", "iban_owner"), "listed twice", id="evidence-twice"),
        pytest.param(_change("classes.robot", {}), "classes.robot", id="unknown-class"),
        pytest.param(_change("key_rules.strong.any_of.0.ec", ["P-256"]), "either rsa or ec", id="rsa-and-ec"),
        pytest.param(_change("key_rules.strong.any_of.0", {}), "either rsa or ec", id="neither-rsa-nor-ec"),
        pytest.param(
            _change("revocation.keyCompromise.steps.0.by", "system"), "keyCompromise.by names", id="system-revokes"
        ),
        pytest.param(_change("denylist.steps.0.by", "ghost"), "denylist.by names", id="unknown-role-denies"),
        pytest.param(_change("classes.gateway.rekey.steps.1.by", "ghost"), "release.by names", id="unknown-rekey-role"),
        pytest.param(
            _change("classes.merchant.rekey.evidence.0", {"kind": "old", "form": "check", "max_age": "P1D"}),
            "rekey needs evidence",
            id="rekey-without-the-old-key",
        ),
        pytest.param(_REKEY_CHECKED, "comes of no check", id="rekey-asks-what-nobody-answers"),
        pytest.param(_change("publication.steps.0.not", ["author"]), "publication.steps states", id="kept-apart-idly"),
        pytest.param(_change("denylist.steps.0.expires", "P1D"), "denylist.steps states", id="lapses-never"),
        pytest.param(
            _change("revocation.superseded.steps.0.when", "risk < 9"), "superseded.steps states", id="whatever-the-risk"
        ),
        pytest.param(_change("review.steps.0.count", "2"), "review.steps asks", id="a-review-by-two"),
        pytest.param(_change("suspension.reason", "mood"), "suspension.reason", id="suspension-ends-in-no-reason"),
        pytest.param(_without("revocation.cessationOfOperation"), "suspension.reason names", id="unlisted-end"),
        pytest.param(
            _without("revocation.cessationOfOperation.by_system"),
            "may not order",
            id="what-nobody-accepts-is-not-revoked",
        ),
        pytest.param(_without("revocation.removeFromCRL"), "lets them be released", id="suspends-for-ever"),
        pytest.param(_change("roles.0", "system"), "no role of a person", id="system-as-a-role"),
        pytest.param(_change("rules", {}), "no text for the rules", id="rules-without-text"),
        pytest.param(_change("classes", {}), "every class", id="class-missing"),
        pytest.param("? [a]\n: 1", "a key is not text", id="list-as-a-key"),
        pytest.param("{<<: {a: 1}, a: 2}", "a key is not text", id="merge-key"),
        pytest.param("a: !!int ''", "a tag is not allowed", id="tag"),
        pytest.param("a: " + "9" * 5000, "not YAML", id="number-without-end"),
        pytest.param("[" * 5000, "more than 32 levels", id="nesting-without-end"),
    ],
)
def test_a_pack_with_one_thing_wrong_is_refused_by_name(text: str | bytes, fault: str) -> None:
    with pytest.raises(PackError, match=fault):
        load_pack(text)
