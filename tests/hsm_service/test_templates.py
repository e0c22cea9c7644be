from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pytest
import yaml

from hsm_service.templates import (
    KEY_PAIRS,
    Operation,
    Purpose,
    Template,
    Templates,
    TemplatesError,
    built_in,
    content_type_name,
)
from pki import oids
from pki.roles import PROFILES, Role

TEMPLATES = built_in().templates


def _template(**changes: Any) -> Template:
    fields: Mapping[str, Any] = {
        "name": "test",
        "description": "",
        "token": "merchants",
        "algorithm": "ec-p256",
        "purpose": "cms",
        "holds": ["merchant"],
        "content_types": ["id-kwbp-ct-invoice"],
        "creators": ["service:operator"],
        "callers": ["merchant:{owner}"],
    }
    return Template.model_validate({**fields, **changes})


def test_the_templates_of_the_product_are_these() -> None:
    assert set(TEMPLATES) == {
        "root-ca",
        "brand-ca",
        "geopolitical-ca",
        "issuing-ca",
        "issuing-ca-ec",
        "issuing-ca-p256",
        "issuing-ca-recoverable",
        "issuing-ca-ec-recoverable",
        "backup-recipient",
        "ocsp-responder",
        "timestamp-authority",
        "raw-ec",
        "raw-rsa-2048",
        "raw-rsa-3072",
        "probe",
        "probe-rsa",
        "attestation",
        "bci",
        "self-audit",
        "log-hsm",
        "log-ca",
        "log-ra",
        "log-gateway",
        "ra-system",
        "merchant-signing",
        "merchant-signing-ec",
        "gateway-signing",
        "gateway-encryption",
        "gateway-vault",
        "gateway-card-ids",
        "zone-pin",
        "zone-pin-des3",
        "zone-pin-aes-128",
        "zone-pin-aes-256",
        "zone-mac",
        "zone-mac-aes-256",
        "zone-mac-des2",
        "zone-master",
        "zone-master-aes-256",
    }


def test_the_digest_is_that_of_the_file() -> None:
    text = files("hsm_service").joinpath("templates.yaml").read_bytes()
    assert built_in().digest == hashlib.sha256(text).hexdigest()


def test_only_ceremonies_touch_the_root_token() -> None:
    root = [template for template in TEMPLATES.values() if template.token == "root"]
    assert [template.name for template in root] == ["root-ca"]
    for operation in Operation:
        assert set(root[0].allowed(operation, None)) == {"ceremony"}


def test_every_role_of_the_hierarchy_is_issued_by_one_kind_of_authority() -> None:
    kinds = {template.issues for template in TEMPLATES.values() if template.issues}
    responders = [Role.OCSP_RESPONDER] * 2  # of an authority's own, so those above the issuing CAs have each one, too
    # Where there is a geopolitical CA, it certifies in place of the brand.
    regional = [Role.CARDHOLDER_CA, Role.MERCHANT_CA, Role.GATEWAY_CA]
    assert sorted(role for roles in kinds for role in roles) == sorted([*Role, *responders, *regional])


def test_a_key_carries_certificates_of_a_role_that_fits_its_purpose() -> None:
    for template in TEMPLATES.values():
        authority = {PROFILES[role].is_ca for role in template.holds}
        certified = template.is_pair and template.purpose not in {Purpose.RESTORE, Purpose.RAW, Purpose.PROBE}
        assert authority == ({template.purpose is Purpose.CA} if certified else set())
        for role in template.issues:
            assert PROFILES[role].issuers & template.holds


def test_a_key_that_issues_leaves_issues_no_authorities() -> None:
    assert not any(PROFILES[role].is_ca for role in TEMPLATES["issuing-ca"].issues)


def test_no_content_is_signed_by_two_kinds_of_party() -> None:
    """But those that either kind says of itself: a refusal, how a purchase stands, wishes for the own certificate."""
    merchants = set(TEMPLATES["merchant-signing"].content_types)
    assert merchants == set(TEMPLATES["merchant-signing-ec"].content_types)
    own = {"error", "inqRes", "certInqReq", "revReq", "revocation", "renewReq"}
    assert merchants & set(TEMPLATES["gateway-signing"].content_types) == {f"id-kwbp-ct-{name}" for name in own}
    assert oids.CT_DUAL_SIGNATURE.dotted_string not in {
        oid for template in TEMPLATES.values() for oid in template.content_type_oids
    }


def test_a_merchants_key_is_used_by_that_merchant_alone() -> None:
    template = TEMPLATES["merchant-signing"]
    assert template.owned
    assert template.permits("merchant:M-1", Operation.CMS, "M-1")
    assert not template.permits("merchant:M-2", Operation.CMS, "M-1")
    assert not template.permits("merchant:M-1", Operation.CMS, None)
    assert not template.permits("service:operator", Operation.CMS, "M-1")
    assert template.permits("service:operator", Operation.GENERATE, "M-1")


def test_only_a_ceremony_makes_a_key_that_signs_digests_and_only_its_owner_uses_it() -> None:
    raw = [template for template in TEMPLATES.values() if template.purpose is Purpose.RAW]
    assert all(template in raw for template in TEMPLATES.values() if template.algorithm == "rsa-2048")
    for template in raw:
        assert template.creators == ("ceremony",)
        assert template.allowed(Operation.RAW, "bench") == ("service:bench",)
        assert not template.offers(Operation.REQUEST)
    assert [name for name, template in TEMPLATES.items() if template.offers(Operation.RAW)] == [
        template.name for template in raw
    ]


def test_the_service_renews_the_brands_crl_and_signs_no_authority() -> None:
    template = TEMPLATES["brand-ca"]
    assert template.permits("service:ca", Operation.CRL, None)
    assert not template.permits("service:ca", Operation.CERTIFICATE, None)
    assert template.permits("ceremony", Operation.CERTIFICATE, None)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=lambda template: template.name)
def test_a_key_offers_what_its_purpose_is_and_nothing_else(template: Template) -> None:
    offered = {operation for operation in Operation if template.offers(operation)}
    pair = {Operation.ATTEST} if template.algorithm in KEY_PAIRS else set()
    certified = {Operation.ATTACH, Operation.REQUEST} if template.holds else set()
    copied = {Operation.BACKUP, Operation.RESTORE} if template.backup else set()
    life = {
        Operation.GENERATE,
        Operation.ROTATE,
        Operation.ENABLE,
        Operation.DISABLE,
        Operation.DESTROY,
        Operation.KEEP,
        Operation.LIMITS,
    }
    own = {
        Purpose.CA: {Operation.CERTIFICATE, Operation.CRL},
        Purpose.CMS: {Operation.CMS},
        Purpose.OPEN_ORDER: {Operation.OPEN},
        Purpose.SEAL_PAN: {Operation.SEAL, Operation.UNSEAL},
        Purpose.PIN_BLOCK: {Operation.PIN_BLOCK},
        Purpose.MAC: {Operation.MAC, Operation.VERIFY_MAC},
        Purpose.RETAIL_MAC: {Operation.MAC, Operation.VERIFY_MAC},
        Purpose.CARD_DIGEST: {Operation.CARD_DIGEST},
        Purpose.ZONE_MASTER: {Operation.RECEIVE},
        Purpose.OCSP: {Operation.OCSP},
        Purpose.TIMESTAMP: {Operation.TIMESTAMP},
        Purpose.CHECKPOINT: {Operation.CHECKPOINT},
        Purpose.RAW: {Operation.RAW},
        Purpose.RESTORE: set(),
        Purpose.PROBE: set(),
    }[template.purpose]
    assert offered == own | pair | certified | copied | life | {Operation.DESCRIBE}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=lambda template: template.name)
def test_nobody_without_a_certificate_may_do_anything(template: Template) -> None:
    assert not any(template.permits("anonymous", operation, "M-1") for operation in Operation)


def test_a_wildcard_matches_names_of_its_kind_only() -> None:
    template = _template(callers=["officer:*"])
    assert template.permits("officer:officer-1", Operation.CMS, None)
    assert not template.permits("service:officer", Operation.CMS, None)
    assert not template.owned


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "ec-p384"},  # no CMS signature suite
        {"algorithm": "aes-256"},
        {"algorithm": "rsa-2048"},
        {"purpose": "raw"},
        {"purpose": "ca"},
        {"issues": ["merchant"]},
        {"holds": []},
        {"holds": ["shopkeeper"]},
        {"content_types": []},
        {"content_types": ["id-kwbp-ct-unheardOf"]},
        {"content_types": ["id-kwbp-cp-service"]},  # a policy is no content
        {"creators": []},
        {"callers": []},
        {"callers": ["anonymous"]},
        {"callers": ["*"]},
        {"callers": ["merchant:M*"]},
        {"only": {"crl": ["service:ca"]}},
        {"token": "other"},
        {"spare": True},
    ],
    ids=str,
)
def test_a_template_that_contradicts_itself_does_not_load(changes: dict[str, Any]) -> None:
    _template()
    with pytest.raises(ValueError):
        _template(**changes)


@pytest.mark.parametrize(
    "text", [b"", b"- a", b"version: 1", b"version: 2\ntemplates: {}", b"{", b"version: 1\ntemplates: {a: 1}"]
)
def test_a_file_that_is_not_a_set_of_templates_does_not_load(text: bytes) -> None:
    with pytest.raises(TemplatesError):
        Templates.parse(text)


def test_templates_cannot_be_changed_once_loaded() -> None:
    with pytest.raises(ValueError):
        setattr(TEMPLATES["root-ca"], "callers", ("service:ca",))  # noqa: B010  # mypy knows that it is frozen


def test_a_set_of_templates_is_looked_up_by_name() -> None:
    document = yaml.safe_load(files("hsm_service").joinpath("templates.yaml").read_bytes())
    loaded = Templates.parse(yaml.safe_dump(document).encode())
    assert loaded["zone-mac"] == TEMPLATES["zone-mac"]
    assert loaded.get("none") is None


def test_content_types_have_names_for_people() -> None:
    assert content_type_name(oids.CT_INVOICE.dotted_string) == "id-kwbp-ct-invoice"
    assert content_type_name("1.2.3") == "1.2.3"
    assert content_type_name("not an oid") == "not an oid"
