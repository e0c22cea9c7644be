"""The vault on real tokens: its keys, their certificates, what it refuses, and what others say of its signatures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from audit import verify
from hsm_service.keys import Usage
from hsm_service.registry import Registry
from hsm_service.request import request_info
from hsm_service.service import KeyInfo, SigningService
from hsm_service.templates import TemplatesError, built_in
from hsm_service.vault import Vault
from pki import oids
from pki.attestation import KeyAttestation
from pki.cms_signed import parse_signed_data, verify_signature
from pki.csr import parse_csr
from pki.names import name
from pki.roles import Role
from runtime.database import open_database
from runtime.problems import Problem
from runtime.secrets import Secret
from tests.support.judges import attime, openssl, openssl_accepts
from tests.support.pki_factory import DAY, NOW, PkiFactory, pem, role_extensions
from tests.support.signing_site import (
    ACK,
    CA,
    CEREMONY,
    GATEWAY,
    INVOICE,
    OPERATOR,
    SHOP,
    SUBJECT,
    World,
    acknowledgement,
    certificate_tbs,
    crl,
    crl_tbs,
    der,
    merchant_chain,
    public_key,
    refusal,
    tbs,
)
from tests.support.softhsm import opened, provisioned_home

OWN_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_key_of_every_template_is_in_custody_and_serves(vault: Vault) -> None:
    keys = vault.list_keys(CEREMONY)
    everyday = {template.name for template in built_in().templates.values() if template.token != "root"}
    assert {key.template for key in keys} == everyday - {"probe-rsa"}  # for tokens without elliptic curves
    assert all(key.state == "ENABLED" and key.unusable is None for key in keys)


def test_generated_keys_were_never_outside_and_zone_keys_say_that_they_were(vault: Vault) -> None:
    for key in vault.list_keys(CEREMONY):
        imported = built_in()[key.template].imported
        assert key.attributes["sensitive"]
        copyable = built_in()[key.template].backup
        assert key.attributes["extractable"] is copyable
        assert key.attributes["local"] is not imported
        assert key.attributes["never_extractable"] is not (imported or copyable)


def test_a_key_is_described_with_who_uses_it_and_what_it_signs(vault: Vault) -> None:
    info = vault.describe_key(SHOP, "shop")
    assert (info.owner, info.algorithm, info.purpose) == ("M-1", "rsa-3072", "cms")
    assert info.callers == (SHOP,)
    assert info.content_types == built_in()["merchant-signing"].content_type_oids
    assert len(info.certificate_chain) == 3


def test_the_vault_of_a_caller_is_a_signing_service(vault: Vault) -> None:
    service: SigningService = vault.as_caller(CEREMONY)
    assert isinstance(service.describe_key("brand"), KeyInfo)


def test_a_merchant_sees_its_own_keys_and_no_others(vault: Vault) -> None:
    assert {key.name for key in vault.list_keys(SHOP)} == {"shop", "shop-ec", "bare-shop"}
    assert {key.name for key in vault.list_keys("merchant:M-2")} == {"other-shop"}
    assert vault.list_keys("merchant:M-3") == []
    assert vault.list_keys("anonymous") == []
    refusal(lambda: vault.describe_key("merchant:M-2", "shop"), 403, "caller-not-allowed")


def test_uses_are_counted_across_restarts(world: World) -> None:
    with world.vault() as vault:
        before = vault.describe_key(SHOP, "shop-ec").uses
        vault.sign_cms(SHOP, "shop-ec", ACK, acknowledgement())
        refusal(lambda: vault.sign_cms(SHOP, "shop-ec", ACK, b""), 422, "content-refused")
        assert vault.describe_key(SHOP, "shop-ec").uses == before + 1
    with world.vault() as vault:
        assert vault.describe_key(SHOP, "shop-ec").uses == before + 1


REFUSED_KEYS: dict[str, tuple[str, str, str, str | None, int, str]] = {
    # caller, name, template, owner
    "by a stranger": ("service:ra", "new", "merchant-signing-ec", "M-9", 403, "caller-not-allowed"),
    "by another merchant": ("merchant:M-1", "new", "merchant-signing-ec", "M-9", 403, "caller-not-allowed"),
    "without client certificate": (
        "anonymous",
        "new",
        "merchant-signing-ec",
        "M-9",
        401,
        "client-certificate-required",
    ),
    "an authority outside a ceremony": (CA, "new", "issuing-ca", None, 403, "caller-not-allowed"),
    "without owner": (OPERATOR, "new", "merchant-signing-ec", None, 422, "bad-owner"),
    "with an owner that its kind has not": (OPERATOR, "new", "gateway-signing", "M-9", 422, "bad-owner"),
    "owner that is a pattern": (OPERATOR, "new", "merchant-signing-ec", "*", 422, "bad-name"),
    "name that is a path": (OPERATOR, "a/b", "merchant-signing-ec", "M-9", 422, "bad-name"),
    "no name": (OPERATOR, "", "merchant-signing-ec", "M-9", 422, "bad-name"),
    "name in use": (OPERATOR, "shop", "merchant-signing-ec", "M-9", 409, "key-exists"),
    "unheard-of template": (CEREMONY, "new", "raw", None, 422, "template-unknown"),
    "in a token that is not open": (CEREMONY, "new", "root-ca", None, 409, "token-not-open"),
    "zone key out of nothing": (CEREMONY, "new", "zone-mac", None, 409, "key-is-imported"),
}


@pytest.mark.parametrize("case", REFUSED_KEYS)
def test_a_key_is_not_made(case: str, world: World) -> None:
    caller, key, template, owner, status, slug = REFUSED_KEYS[case]
    with world.vault() as vault:
        before = vault.list_keys(CEREMONY)
        refusal(lambda: vault.generate_key(caller, key, template, owner=owner), status, slug)
        assert vault.list_keys(CEREMONY) == before
    last = world.journal()[-1]
    assert (last["event"], last["operation"], last["caller"], last["reason"]) == ("refused", "generate", caller, slug)


def test_a_key_that_is_still_being_made_is_not_there_yet(vault: Vault) -> None:
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(vault.generate_key, CEREMONY, "slow", "merchant-signing", owner="M-9")
        while not made.done():
            assert all(info.state for info in vault.list_keys(OPERATOR))
            with contextlib.suppress(Problem):  # 404 until it is there
                vault.describe_key(OPERATOR, "slow")
    assert vault.describe_key(OPERATOR, "slow").public_key == made.result().public_key


def test_a_merchants_key_is_its_own(vault: Vault) -> None:
    info = vault.generate_key(CEREMONY, "nine", "merchant-signing-ec", owner="M-9")
    assert isinstance(public_key(info.public_key), ec.EllipticCurvePublicKey)
    assert info.callers == ("merchant:M-9",)


def test_only_zone_keys_are_loaded_and_only_by_a_ceremony(vault: Vault) -> None:
    components = [Secret(bytes(16)), Secret(b"\x01" * 16)]
    refusal(lambda: vault.import_zone_key(CEREMONY, "new", "gateway-vault", components), 409, "key-is-generated")
    refusal(lambda: vault.import_zone_key(GATEWAY, "new", "zone-mac", components), 403, "caller-not-allowed")
    refusal(lambda: vault.import_zone_key(CEREMONY, "new", "zone-mac", components[:1]), 400, "bad-input")


def test_the_making_of_a_key_that_was_interrupted_is_taken_up(world: World) -> None:
    registry = Registry(open_database(world.home.db / "keys.db"))
    row = registry.reserve(
        "late", template="merchant-signing-ec", owner="M-9", token="merchants", cka_id=b"\x07" * 16, now=NOW
    )
    registry.close()
    with opened(world.home, "merchants") as token:
        _, made = token.generate_ec("late", cka_id=row.cka_id)
    with world.vault() as vault:
        pending = vault.describe_key(CEREMONY, "late")
        assert (pending.state, pending.public_key) == ("PENDING", b"")
        refusal(lambda: vault.sign_cms("merchant:M-9", "late", ACK, acknowledgement("M-9")), 409, "key-not-enabled")
        info = vault.generate_key(CEREMONY, "late", "merchant-signing-ec", owner="M-9")
        assert (info.state, public_key(info.public_key)) == ("ENABLED", made)


def test_a_key_that_its_token_lost_serves_nobody(world: World) -> None:
    with opened(world.home, "merchants") as token:
        ref = token.find(label="shop-ec")
        assert ref is not None
        token.destroy(ref)
    with world.vault() as vault:
        assert vault.describe_key(SHOP, "shop-ec").unusable == "the token does not hold it"
        refusal(lambda: vault.sign_cms(SHOP, "shop-ec", ACK, acknowledgement()), 503, "key-not-usable")
        vault.sign_cms(SHOP, "shop", ACK, acknowledgement())


def test_a_key_that_was_exchanged_in_its_token_serves_nobody(world: World) -> None:
    with opened(world.home, "merchants") as token:
        ref = token.find(label="shop-ec")
        assert ref is not None
        token.destroy(ref)
        token.generate_ec("shop-ec", cka_id=ref.cka_id)
    with world.vault() as vault:
        assert vault.describe_key(SHOP, "shop-ec").unusable == "the token holds another key"
        refusal(lambda: vault.sign_cms(SHOP, "shop-ec", ACK, acknowledgement()), 503, "key-not-usable")


def test_a_key_whose_object_serves_another_usage_serves_nobody(world: World) -> None:
    with opened(world.home, "gateway") as token:
        ref = token.find(label="gateway-vault")
        assert ref is not None
        token.destroy(ref)
        token.generate_aes("gateway-vault", 256, usage=Usage.MAC, cka_id=ref.cka_id)
    with world.vault() as vault:
        assert "SIGN=true" in (vault.describe_key(GATEWAY, "gateway-vault").unusable or "")


def test_a_key_of_a_token_that_is_not_open_is_listed_and_serves_nobody(world: World) -> None:
    with world.vault(tokens=["ca"]) as vault:
        assert "not open" in (vault.describe_key(SHOP, "shop").unusable or "")
        refusal(lambda: vault.sign_cms(SHOP, "shop", ACK, acknowledgement()), 503, "key-not-usable")


def test_a_key_whose_template_is_gone_keeps_the_vault_shut(world: World) -> None:
    registry = Registry(open_database(world.home.db / "keys.db"))
    registry.reserve("odd", template="raw", owner=None, token="merchants", cka_id=b"\x07" * 16, now=NOW)
    registry.close()
    with pytest.raises(TemplatesError, match="the template raw, which is gone"):
        world.vault()
    assert verify(world.home.audit / "hsm.jsonl").torn == b""  # and let go of it


def test_token_objects_that_nobody_registered_are_reported(world: World) -> None:
    with opened(world.home, "merchants") as token:
        token.generate_ec("stranger")
    with structlog.testing.capture_logs() as logs:
        world.vault().close()
    assert "token holds a key that the registry does not know" in {entry["event"] for entry in logs}


# -- certificates of keys ----------------------------------------------------------------------------------------------


def _chain(vault: Vault, world: World, merchant: str = "M-1", key: str = "bare-shop") -> list[bytes]:
    return der(*merchant_chain(world.pki, merchant, public_key(vault.describe_key(CEREMONY, key).public_key)))


def test_a_renewed_certificate_replaces_the_old_one(world: World, vault: Vault) -> None:
    for _ in range(2):
        chain = _chain(vault, world)
        info = vault.attach_certificate(OPERATOR, "bare-shop", chain)
        assert list(info.certificate_chain) == chain
        signed = vault.sign_cms(SHOP, "bare-shop", ACK, acknowledgement()).signed
        assert parse_signed_data(signed, content_type=oids.CT_AUTH_ACK).signer.public_bytes(Encoding.DER) == chain[0]


def _hostile_chains(vault: Vault, world: World) -> dict[str, tuple[list[bytes], str]]:
    good = _chain(vault, world)
    stranger = PkiFactory()
    own = public_key(vault.describe_key(CEREMONY, "bare-shop").public_key)
    carrier: Any = type("Carrier", (), {"public_key": lambda _self: own})()
    gateway = world.pki.gateway_signing(key=carrier)
    roleless = world.pki.issue(world.pki.merchant_ca, name(cn="M-1"), {}, key=carrier)
    return {
        "nothing": ([], "bad-chain"),
        "no certificate": ([b"\x05\x00"], "malformed"),
        "trailing byte": ([good[0] + b"\x00", *good[1:]], "malformed"),
        "of another key": (_chain(vault, world, key="shop-ec"), "foreign-certificate"),
        "of another merchant": (_chain(vault, world, "M-2"), "owner-mismatch"),
        "of no role": (der(roleless.certificate, *roleless.chain), "wrong-role"),
        "of another role": (der(gateway.certificate, *gateway.chain), "role-not-allowed"),
        "a link missing": ([good[0], good[2]], "bad-chain"),
        "links swapped": ([good[0], good[2], good[1]], "bad-chain"),
        "cut short": (good[:2], "bad-chain"),
        "with the root": ([*good, *der(world.pki.root.certificate)], "bad-chain"),
        "below a root that nobody pinned": (der(*merchant_chain(stranger, "M-1", own)), "bad-chain"),
        "endless": (good * 4, "bad-chain"),
    }


def test_a_chain_with_one_wrong_thing_is_not_attached(world: World, vault: Vault) -> None:
    for chain, slug in _hostile_chains(vault, world).values():
        refusal(lambda chain=chain: vault.attach_certificate(OPERATOR, "bare-shop", chain), 422, slug)  # type: ignore[misc]  # default binds
        assert vault.describe_key(SHOP, "bare-shop").certificate_chain == ()
        assert world.journal()[-1]["reason"] == slug


def test_a_certificate_is_attached_by_those_who_make_such_keys(world: World, vault: Vault) -> None:
    chain = _chain(vault, world)
    for stranger in ("merchant:M-2", CA, GATEWAY):
        refusal(lambda by=stranger: vault.attach_certificate(by, "bare-shop", chain), 403, "caller-not-allowed")  # type: ignore[misc]  # default binds
    refusal(lambda: vault.attach_certificate(CEREMONY, "zone-mac", chain), 409, "key-misused")


# -- signatures that others judge --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["merchant-ca", "merchant-ca-ec"])
def test_openssl_accepts_certificates_and_lists_of_a_token_key(
    key: str, world: World, vault: Vault, tmp_path: Path
) -> None:
    certificate = x509.load_der_x509_certificate(vault.sign_certificate(CEREMONY, key, tbs(vault, key)).signed)
    revoked = x509.load_der_x509_certificate(vault.sign_certificate(CEREMONY, key, tbs(vault, key)).signed)
    signed_list = vault.sign_crl(CA, key, crl(vault, 1, key, revoked=[(revoked.serial_number, NOW)])).signed
    files = {
        "root": pem(world.pki.root.certificate),
        "chain": pem(*vault.key(key).pair().chain),
        "crls": pem(x509.load_der_x509_crl(signed_list), *world.pki.crls()),
        "good": pem(certificate),
        "revoked": pem(revoked),
    }
    for stem, content in files.items():
        (tmp_path / stem).write_bytes(content)
    command = (
        "verify", "-crl_check_all", *attime(NOW),
        "-CAfile", tmp_path / "root", "-untrusted", tmp_path / "chain", "-CRLfile", tmp_path / "crls",
    )  # fmt: skip
    openssl(*command, tmp_path / "good")
    assert not openssl_accepts(*command, tmp_path / "revoked")


@pytest.mark.parametrize("key", ["shop", "shop-ec"])
def test_openssl_accepts_messages_of_a_token_key(key: str, world: World, vault: Vault, tmp_path: Path) -> None:
    answer = vault.sign_cms(SHOP, key, ACK, acknowledgement())
    (tmp_path / "message").write_bytes(answer.signed)
    (tmp_path / "root").write_bytes(pem(world.pki.root.certificate))
    content = openssl(
        "cms", "-verify", "-binary", "-inform", "DER", "-in", tmp_path / "message", "-purpose", "any",
        "-CAfile", tmp_path / "root", *attime(NOW),
    )  # fmt: skip
    assert content == acknowledgement()
    signed = parse_signed_data(answer.signed, content_type=oids.CT_AUTH_ACK)
    verify_signature(signed)
    assert signed.signing_time == NOW
    assert answer.algorithm == signed.suite.value


@pytest.mark.parametrize("key", ["shop", "shop-ec", "gateway-encryption", "merchant-ca-ec"])
def test_openssl_accepts_requests_of_a_token_key(key: str, vault: Vault, tmp_path: Path) -> None:
    service = vault.as_caller(CEREMONY)
    request = service.certification_request(key, name(cn="M-1").public_bytes(), ["urn:kwbp:merchant:M-1"])
    (tmp_path / "request").write_bytes(request)
    openssl("req", "-verify", "-noout", "-inform", "DER", "-in", tmp_path / "request")
    parsed = parse_csr(request)
    assert parsed.public_key() == vault.key(key).pair().public_key
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:kwbp:merchant:M-1"]


def test_a_request_for_nonsense_is_refused(vault: Vault) -> None:
    service = vault.as_caller(CEREMONY)
    refusal(lambda: service.certification_request("shop", b"nonsense"), 422, "bad-subject")
    refusal(lambda: service.certification_request("shop", name(cn="x").public_bytes(), ["فروشگاه"]), 422, "bad-uri")
    refusal(lambda: service.certification_request("zone-mac", name(cn="x").public_bytes()), 409, "key-misused")


def test_an_attestation_states_what_the_token_says(vault: Vault) -> None:
    signed = parse_signed_data(vault.attest_key(SHOP, "shop").signed, content_type=oids.CT_KEY_ATTESTATION)
    verify_signature(signed)
    assert signed.signer == vault.key("attestation").pair().certificate
    statement = KeyAttestation.from_der(signed.content)
    assert statement.born_and_bound_in_token
    assert (statement.key_name, statement.key_version, statement.token) == ("shop", 1, "merchants")
    refusal(lambda: vault.attest_key("merchant:M-2", "shop"), 403, "caller-not-allowed")
    refusal(lambda: vault.attest_key(GATEWAY, "gateway-vault"), 409, "key-misused")


def test_nobody_can_write_an_attestation_of_their_own(vault: Vault) -> None:
    content = KeyAttestation("x", 1, bytes(32), "ca", True, True, True, True, False, NOW).to_der()
    for caller in (CEREMONY, CA, SHOP, OPERATOR):
        refusal(
            lambda by=caller: vault.sign_cms(by, "attestation", oids.CT_KEY_ATTESTATION.dotted_string, content),  # type: ignore[misc]  # default binds
            403,
            "caller-not-allowed",
        )


def test_without_attestation_key_nothing_is_attested(tmp_path: Path) -> None:
    with Vault.open(provisioned_home(tmp_path), ["merchants"], clock=lambda: NOW) as vault:
        vault.generate_key(CEREMONY, "shop", "merchant-signing-ec", owner="M-1")
        refusal(lambda: vault.attest_key(SHOP, "shop"), 409, "no-attestation-key")


# -- refusals ----------------------------------------------------------------------------------------------------------

Attempt = Callable[[Vault], object]
SUBORDINATE = role_extensions(Role.GATEWAY_CA, path_length=0)

REFUSED_SIGNATURES: dict[str, tuple[Attempt, str, int, str]] = {
    "certificate by a stranger": (
        lambda v: v.sign_certificate(SHOP, "merchant-ca", tbs(v)), "merchant-ca", 403, "caller-not-allowed",
    ),
    "certificate without client certificate": (
        lambda v: v.sign_certificate("anonymous", "merchant-ca", tbs(v)),
        "merchant-ca", 401, "client-certificate-required",
    ),
    "authority signed in service": (
        lambda v: v.sign_certificate(CA, "brand", b""), "brand", 403, "caller-not-allowed",
    ),
    "CA:TRUE from an issuing CA": (
        lambda v: v.sign_certificate(CA, "merchant-ca", tbs(v, extensions=SUBORDINATE)),
        "merchant-ca", 422, "role-not-allowed",
    ),
    "another issuer": (
        lambda v: v.sign_certificate(CA, "merchant-ca", tbs(v, issuer_name=name(cn="Other"))),
        "merchant-ca", 422, "issuer-mismatch",
    ),
    "certificate by a merchant's key": (
        lambda v: v.sign_certificate(SHOP, "shop-ec", tbs(v)), "shop-ec", 409, "key-misused",
    ),
    "list by a merchant's key": (
        lambda v: v.sign_crl(SHOP, "shop-ec", crl(v, 1)), "shop-ec", 409, "key-misused",
    ),
    "list of another authority": (
        lambda v: v.sign_crl(CA, "merchant-ca", crl(v, 1, "merchant-ca-ec")), "merchant-ca", 422, "malformed",
    ),
    "message by another merchant": (
        lambda v: v.sign_cms("merchant:M-2", "shop-ec", ACK, acknowledgement()),
        "shop-ec", 403, "caller-not-allowed",
    ),
    "message by whoever made the key": (
        lambda v: v.sign_cms(OPERATOR, "shop-ec", ACK, acknowledgement()), "shop-ec", 403, "caller-not-allowed",
    ),
    "message by an authority's key": (
        lambda v: v.sign_cms(CA, "merchant-ca", ACK, acknowledgement()), "merchant-ca", 409, "key-misused",
    ),
    "gateway's answer by a merchant": (
        lambda v: v.sign_cms(SHOP, "shop-ec", oids.CT_AUTH_RES.dotted_string, b""),
        "shop-ec", 403, "content-type-not-allowed",
    ),
    "invoice that is none": (
        lambda v: v.sign_cms(SHOP, "shop-ec", INVOICE, acknowledgement()), "shop-ec", 422, "content-refused",
    ),
    "message in another merchant's name": (
        lambda v: v.sign_cms(SHOP, "shop-ec", ACK, acknowledgement("M-2")), "shop-ec", 422, "content-refused",
    ),
    "message without certificate": (
        lambda v: v.sign_cms(SHOP, "bare-shop", ACK, acknowledgement()), "bare-shop", 409, "key-has-no-certificate",
    ),
    "digest called a message": (
        lambda v: v.sign_cms(SHOP, "shop-ec", ACK, bytes(32)), "shop-ec", 422, "content-refused",
    ),
    "digest called a certificate": (
        lambda v: v.sign_certificate(CA, "merchant-ca", bytes(32)), "merchant-ca", 422, "malformed",
    ),
    "digest called a request": (
        lambda v: v.sign_request(SHOP, "shop-ec", bytes(32)), "shop-ec", 422, "malformed",
    ),
    "request for a foreign key": (
        lambda v: v.sign_request(SHOP, "shop-ec", _info_of(v, "shop")), "shop-ec", 422, "foreign-public-key",
    ),
    "request by a stranger": (
        lambda v: v.sign_request("merchant:M-2", "shop-ec", _info_of(v, "shop-ec")),
        "shop-ec", 403, "caller-not-allowed",
    ),
    "message by the key that opens orders": (
        lambda v: v.sign_cms(GATEWAY, "gateway-encryption", ACK, acknowledgement()),
        "gateway-encryption", 409, "key-misused",
    ),
    "unknown key": (lambda v: v.sign_cms(SHOP, "nobody", ACK, acknowledgement()), "nobody", 404, "key-not-found"),
    "unknown version": (
        lambda v: v.sign_cms(SHOP, "shop-ec", ACK, acknowledgement(), 2), "shop-ec", 404, "key-not-found",
    ),
}  # fmt: skip


def _info_of(vault: Vault, key: str) -> bytes:
    return request_info(name(cn="x").public_bytes(), (), vault.describe_key(CEREMONY, key).public_key)


@pytest.mark.parametrize("case", REFUSED_SIGNATURES)
def test_what_is_refused_is_not_signed_and_is_on_the_record(case: str, world: World, vault: Vault) -> None:
    attempt, key, status, slug = REFUSED_SIGNATURES[case]
    uses = {info.name: info.uses for info in vault.list_keys(CEREMONY)}
    problem = refusal(lambda: attempt(vault), status, slug)
    assert {info.name: info.uses for info in vault.list_keys(CEREMONY)} == uses
    last = world.journal()[-1]
    assert (last["event"], last["keys"], last["reason"], last["rule"]) == ("refused", [key], slug, problem.clause)


def test_a_list_number_never_goes_back_not_even_after_a_restart(world: World) -> None:
    with world.vault() as vault:
        vault.sign_crl(CA, "merchant-ca", crl(vault, 5))
        refusal(lambda: vault.sign_crl(CA, "merchant-ca", crl(vault, 4)), 409, "crl-number-not-larger")
    with world.vault() as vault:
        other = crl(vault, 5, revoked=[(1, NOW)])
        refusal(lambda: vault.sign_crl(CA, "merchant-ca", other), 409, "crl-number-not-larger")
        vault.sign_crl(CA, "merchant-ca", crl(vault, 5))
        vault.sign_crl(CA, "merchant-ca", crl(vault, 6))
        vault.sign_crl(CA, "merchant-ca-ec", crl(vault, 1, "merchant-ca-ec"))


def test_a_serial_number_is_never_given_twice_not_even_after_a_restart(world: World) -> None:
    with world.vault() as vault:
        first = tbs(vault, serial=1 << 99)
        vault.sign_certificate(CEREMONY, "merchant-ca", first)
    with world.vault() as vault:
        again = tbs(vault, serial=1 << 99, public=OWN_KEY)
        refusal(lambda: vault.sign_certificate(CEREMONY, "merchant-ca", again), 409, "serial-not-fresh")
        vault.sign_certificate(CEREMONY, "merchant-ca", first)


# -- the root ----------------------------------------------------------------------------------------------------------


def test_the_root_is_opened_alone_certifies_itself_and_the_brand(world: World) -> None:
    subject = name(cn="Token Root", o="KWBP Test")
    with Vault.open_root(world.home, clock=lambda: NOW) as vault:
        for caller in (CA, OPERATOR, "service:hsm"):
            refusal(lambda by=caller: vault.generate_key(by, "root", "root-ca"), 403, "caller-not-allowed")  # type: ignore[misc]  # default binds
        room = vault.as_caller(CEREMONY)
        own = public_key(room.generate_key("root", "root-ca").public_key)
        key_identifier = x509.SubjectKeyIdentifier.from_public_key(own)
        template = world.pki.root.certificate
        extensions = {**role_extensions(Role.ROOT, path_length=2), "ski": (key_identifier, False)}
        structure = certificate_tbs(
            template, own, public=own, subject=subject, issuer_name=subject, extensions=extensions,
            authority_key=key_identifier.digest, not_after=NOW + 3650 * DAY,
        )  # fmt: skip
        root = x509.load_der_x509_certificate(room.sign_certificate("root", structure))
        root.verify_directly_issued_by(root)
        world.home.trust_anchors.unlink()
        room.attach_certificate("root", der(root))
        brand = certificate_tbs(
            root, own, public=SUBJECT, subject=name(cn="Brand"), extensions=role_extensions(Role.BRAND, path_length=1)
        )
        x509.load_der_x509_certificate(room.sign_certificate("root", brand)).verify_directly_issued_by(root)
        signed = x509.load_der_x509_crl(
            room.sign_crl("root", crl_tbs(root, own, next_update=NOW + timedelta(days=365)))
        )
        assert signed.is_signature_valid(own)
        refusal(
            lambda: room.sign_certificate("root", certificate_tbs(root, own, public=SUBJECT)), 422, "role-not-allowed"
        )
    with world.vault() as vault:
        refusal(lambda: vault.describe_key(CEREMONY, "root"), 404, "key-not-found")


def test_a_root_certificate_is_attached_alone_and_self_signed(world: World) -> None:
    with Vault.open_root(world.home, clock=lambda: NOW) as vault:
        room = vault.as_caller(CEREMONY)
        room.generate_key("root", "root-ca")
        refusal(lambda: room.attach_certificate("root", der(world.pki.root.certificate)), 422, "foreign-certificate")


def test_the_root_and_the_services_are_never_open_together(world: World, vault: Vault) -> None:
    with pytest.raises(Exception, match="tokens are open"):
        Vault.open_root(world.home)
