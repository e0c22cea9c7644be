"""The policy of dual control: what it asks for, and files that are refused before any token is opened."""

from __future__ import annotations

from importlib.resources import files

import pytest

from cps.packs import published
from hsm_service.dual_control_policy import Policy, Rule, built_in_policy
from hsm_service.operation_request import KeyOperation
from hsm_service.templates import Templates, TemplatesError, built_in

TEXT = files("hsm_service").joinpath("dual_control.yaml").read_text("utf-8")


def parse(text: str = TEXT, templates: Templates | None = None) -> Policy:
    return Policy.parse(text.encode(), templates or built_in(), published())


def test_every_operation_but_disabling_needs_two_security_officers() -> None:
    policy = built_in_policy()
    for operation in set(KeyOperation) - {KeyOperation.USE, KeyOperation.DISABLE}:
        for template in built_in().templates:
            wanted = policy.requirement(operation, {"template": template})
            assert wanted is not None
            assert (wanted.approvals, wanted.by) == (2, ("security_officer",))
    assert policy.requirement(KeyOperation.DISABLE, {"template": "issuing-ca"}) is None


def test_only_a_ceremony_is_exempt() -> None:
    policy = built_in_policy()
    assert policy.is_exempt("ceremony")
    for caller in ("service:ceremony", "officer:ceremony", "merchant:ceremony", "anonymous", "", "Ceremony"):
        assert not policy.is_exempt(caller)


def test_a_requirement_may_be_for_some_templates() -> None:
    policy = parse(
        TEXT.replace(
            "generate:   {by: [security_officer], approvals: 2}",
            "generate:   {by: [security_officer], approvals: 2, templates: [gateway-*]}",
        )
    )
    assert policy.requirement(KeyOperation.GENERATE, {"template": "gateway-signing"}) is not None
    assert policy.requirement(KeyOperation.GENERATE, {"template": "merchant-signing"}) is None
    assert policy.requirement(KeyOperation.GENERATE, {}) is None


def test_the_digest_is_of_the_file_and_of_the_templates() -> None:
    templates = built_in().model_copy(update={"digest": "0" * 64})
    assert len({parse().digest, parse(TEXT + "\n").digest, parse(templates=templates).digest}) == 3
    assert parse().digest == built_in_policy().digest


def test_refusals_name_section_and_rule() -> None:
    assert built_in_policy().clause(Rule.APR_REQUESTER) == "CPS 5.2.4 APR-REQUESTER"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1", "version: 2"),
        ("version: 1", "version: 1\nmore: true"),
        ("exempt: [ceremony]", 'exempt: ["service:*"]'),
        ("exempt: [ceremony]", 'exempt: ["service:operator"]'),
        ("request: P7D", "request: PT0S"),
        ("approval: PT24H", "approval: -PT1H"),
        ("  destroy:    {by: [security_officer], approvals: 2}\n", ""),
        ("  destroy:", "  escrow:"),
        ("destroy:    {by: [security_officer], approvals: 2}", "destroy:    {by: [], approvals: 2}"),
        ("destroy:    {by: [security_officer], approvals: 2}", "destroy:    {by: [key_master], approvals: 2}"),
        ("destroy:    {by: [security_officer], approvals: 2}", "destroy:    {by: [security_officer], approvals: -1}"),
        ("destroy:    {by: [security_officer], approvals: 2}", "destroy:    {by: [security_officer]}"),
        ("use:\n  root-ca:", "use:\n  leaf-ca:"),
        ("    certificate: {by", "    cms: {by"),
        ("    certificate: {by", "    mac: {by"),
        ("    certificate: {by: [security_officer]", "    certificate: {by: [system]"),
        ("  APR-PERSON:", "  APR-PEOPLE:"),
        ("version: 1", ": ["),
        (TEXT, "[]"),
        (TEXT, ""),
    ],
    ids=range(20),
)
def test_a_policy_with_one_thing_wrong_is_refused(old: str, new: str) -> None:
    assert old in TEXT
    with pytest.raises(TemplatesError):
        parse(TEXT.replace(old, new, 1))
