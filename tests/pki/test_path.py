"""Certification paths: what holds, and every single reason for which one does not."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from pki.crl import CrlSet
from pki.errors import PathError
from pki.names import name
from pki.path import LARGEST, MAX_EXTRA, Trust, _is_signed, validate_path
from pki.roles import Role
from tests.support.der_surgery import Node, parse, resigned, with_unused_bit
from tests.support.judges import attime, openssl_accepts
from tests.support.pki_factory import (
    DAY,
    NOW,
    Authority,
    Credential,
    PkiFactory,
    p256,
    pem,
    role_extensions,
    rsa_key,
)

SECOND = timedelta(seconds=1)


def refused(
    credential: Credential,
    trust: Trust,
    *,
    extra: Sequence[x509.Certificate] | None = None,
    now: datetime = NOW,
    roles: Collection[Role] = tuple(Role),
) -> str:
    with pytest.raises(PathError) as error:
        validate_path(
            credential.certificate, credential.chain if extra is None else extra, trust=trust, now=now, roles=roles
        )
    assert error.value.clause
    return error.value.reason


def without_intermediates(trust: Trust) -> Trust:
    return replace(trust, intermediates=())


def resign(credential: Credential, tree: Node, issuer: Authority) -> Credential:
    """The certificate with its changed TBS signed anew by the CA that issued it."""
    return replace(credential, certificate=x509.load_der_x509_certificate(resigned(tree, issuer.credential.key)))


@pytest.fixture
def world() -> PkiFactory:
    """A hierarchy of its own, for tests that revoke."""
    return PkiFactory()


class TestWhatHolds:
    def test_a_leaf_of_every_role_has_a_path(self, pki: PkiFactory, trust: Trust) -> None:
        leaves = {
            Role.CARDHOLDER: pki.cardholder(),
            Role.MERCHANT: pki.merchant(),
            Role.GATEWAY_SIGNING: pki.gateway_signing(),
            Role.GATEWAY_ENCRYPTION: pki.gateway_encryption(),
            Role.OFFICER: pki.officer(),
            Role.SERVICE: pki.service(),
        }
        for role, leaf in leaves.items():
            path = validate_path(leaf.certificate, trust=trust, now=NOW, roles=[role])
            assert path.role is role
            assert path.leaf == leaf.certificate
            assert path.root == pki.root.certificate
            assert path.certificates == (leaf.certificate, *leaf.chain, pki.root.certificate)

    def test_a_ca_has_a_path(self, pki: PkiFactory, trust: Trust) -> None:
        for authority in pki.authorities:
            path = validate_path(authority.certificate, trust=trust, now=NOW, roles=[authority.role])
            assert path.certificates == (authority.certificate, *chain_above(authority, pki))

    def test_ca_certificates_may_come_with_the_message(self, merchant: Credential, trust: Trust) -> None:
        path = validate_path(
            merchant.certificate,
            (merchant.certificate, *merchant.chain),
            trust=without_intermediates(trust),
            now=NOW,
            roles=[Role.MERCHANT],
        )
        assert len(path.certificates) == 4

    def test_an_rsa_signer_below_ec_cas_has_a_path(self, rsa_merchant: Credential, trust: Trust) -> None:
        assert validate_path(rsa_merchant.certificate, trust=trust, now=NOW, roles=[Role.MERCHANT])

    def test_a_root_that_is_not_pinned_may_come_along_in_vain(self, merchant: Credential, trust: Trust) -> None:
        stranger = PkiFactory().root.certificate
        assert validate_path(merchant.certificate, [stranger], trust=trust, now=NOW, roles=[Role.MERCHANT])

    def test_two_pinned_roots_during_a_rollover(self, pki: PkiFactory, trust: Trust) -> None:
        other = PkiFactory()
        both = Trust(
            anchors=(other.root.certificate, *trust.anchors),
            intermediates=trust.intermediates,
            crls=CrlSet((*pki.crls(), *other.crls())),
        )
        for factory in (pki, other):
            leaf = factory.merchant()
            path = validate_path(leaf.certificate, leaf.chain, trust=both, now=NOW, roles=[Role.MERCHANT])
            assert path.root == factory.root.certificate

    def test_a_good_chain_is_found_beside_a_bad_one(self, pki: PkiFactory, merchant: Credential, trust: Trust) -> None:
        """The merchant CA has a second certificate on the same key, which has expired."""
        mca = pki.merchant_ca
        expired = pki.authority(mca.role, pki.brand, key=mca.credential.key, not_after=NOW - SECOND)
        path = validate_path(
            merchant.certificate,
            trust=replace(trust, intermediates=(expired.certificate, *trust.intermediates)),
            now=NOW,
            roles=[Role.MERCHANT],
        )
        assert mca.certificate in path.certificates

    def test_revocation_can_be_left_to_another(self, merchant: Credential, trust: Trust) -> None:
        blind = replace(trust, crls=CrlSet())
        path = validate_path(merchant.certificate, trust=blind, now=NOW, roles=[Role.MERCHANT], check_revocation=False)
        assert path.role is Role.MERCHANT

    def test_without_key_identifiers_names_suffice(self, pki: PkiFactory, trust: Trust) -> None:
        leaf = pki.service()
        tree = parse(leaf.der)
        extensions = tree.at(0, 7, 0)
        extensions.children = [e for e in extensions.children if e.at(0).content != bytes.fromhex("551d23")]
        bare = resign(leaf, tree, pki.operations_ca)
        assert validate_path(bare.certificate, trust=trust, now=NOW, roles=[Role.SERVICE])


def chain_above(authority: Authority, pki: PkiFactory) -> tuple[x509.Certificate, ...]:
    return () if authority is pki.root else (*authority.credential.chain, pki.root.certificate)


class TestIssuers:
    def test_a_foreign_certificate_is_refused(self, trust: Trust) -> None:
        """Another hierarchy with the same names: only the keys differ."""
        assert refused(PkiFactory().merchant(), trust) == "unknown_issuer"

    def test_a_self_signed_certificate_is_refused(self, pki: PkiFactory, trust: Trust) -> None:
        key = p256()
        subject = name(cn="M-1")
        made = pki.build(
            subject=subject,
            issuer=subject,
            public_key=key.public_key(),
            issuer_key=key,
            extensions=role_extensions(Role.MERCHANT),
        )
        assert refused(Credential(made, key, ()), trust) == "unknown_issuer"

    def test_a_root_that_is_not_pinned_is_refused(self, trust: Trust) -> None:
        assert refused(PkiFactory(brand="Other").root.credential, trust) == "unknown_issuer"

    def test_a_missing_intermediate_is_an_unknown_issuer(self, merchant: Credential, trust: Trust) -> None:
        assert refused(merchant, without_intermediates(trust), extra=[]) == "unknown_issuer"

    def test_a_certificate_signed_by_another_key_in_the_issuers_name_is_refused(
        self, pki: PkiFactory, merchant: Credential, trust: Trust
    ) -> None:
        forged = resigned(parse(merchant.der), p256())
        assert refused(replace(merchant, certificate=x509.load_der_x509_certificate(forged)), trust) == "bad_signature"

    def test_a_changed_certificate_is_refused(self, merchant: Credential, trust: Trust) -> None:
        changed = x509.load_der_x509_certificate(merchant.der.replace(b"Bookshop", b"Bankshop"))
        assert refused(replace(merchant, certificate=changed), trust) == "bad_signature"

    def test_two_algorithm_identifiers_that_differ_are_refused(
        self, pki: PkiFactory, merchant: Credential, trust: Trust
    ) -> None:
        tree = parse(merchant.der)
        tree.at(1, 0).content = tree.at(1, 0).content[:-1] + b"\x03"  # ecdsa-with-SHA384, outside only
        changed = x509.load_der_x509_certificate(tree.encode())
        assert refused(replace(merchant, certificate=changed), trust) == "bad_signature"

    def test_a_leaf_issues_nothing(self, pki: PkiFactory, trust: Trust) -> None:
        brand = pki.authority(Role.BRAND, pki.root, label="unlimited brand")
        issuer = pki.authority(Role.MERCHANT_CA, brand, label="unlimited")
        shop = Authority(pki.merchant(issuer=issuer), Role.MERCHANT)
        below = pki.merchant("M-2", issuer=shop)
        crls = CrlSet([*pki.crls(), brand.crl(NOW), issuer.crl(NOW)])
        assert refused(below, replace(trust, crls=crls)) == "not_a_ca"

    def test_a_ca_without_basic_constraints_issues_nothing(self, pki: PkiFactory, trust: Trust) -> None:
        extensions = role_extensions(Role.MERCHANT_CA)
        del extensions["basic_constraints"]
        issuer = Authority(pki.issue(pki.brand, name(cn="No CA"), extensions), Role.MERCHANT_CA)
        assert refused(pki.merchant(issuer=issuer), trust) == "not_a_ca"

    def test_a_ca_that_may_not_sign_certificates_issues_nothing(self, pki: PkiFactory, trust: Trust) -> None:
        extensions = role_extensions(Role.MERCHANT_CA)
        extensions["key_usage"] = role_extensions(Role.MERCHANT)["key_usage"]
        issuer = Authority(pki.issue(pki.brand, name(cn="No signer"), extensions), Role.MERCHANT_CA)
        assert refused(pki.merchant(issuer=issuer), trust) == "bad_key_usage"

    def test_a_path_length_is_kept(self, pki: PkiFactory, trust: Trust) -> None:
        short = pki.authority(Role.BRAND, pki.root, path_length=0, label="short")
        issuer = pki.authority(Role.MERCHANT_CA, short, label="below short")
        leaf = pki.merchant(issuer=issuer)
        crls = CrlSet([*pki.crls(), short.crl(NOW), issuer.crl(NOW)])
        assert refused(leaf, replace(trust, crls=crls)) == "path_too_long"

    def test_a_chain_longer_than_any_of_ours_is_not_followed(self, pki: PkiFactory, trust: Trust) -> None:
        issuer = pki.brand
        for step in range(3):
            issuer = pki.authority(Role.BRAND, issuer, label=f"step {step}")
        assert refused(pki.merchant(issuer=issuer), trust) == "unknown_issuer"

    def test_a_message_with_a_heap_of_certificates_is_refused_unread(self, merchant: Credential, trust: Trust) -> None:
        heap = [merchant.certificate] * (MAX_EXTRA + 1)
        assert refused(merchant, trust, extra=heap) == "path_too_long"
        assert validate_path(merchant.certificate, heap[1:], trust=trust, now=NOW, roles=[Role.MERCHANT])

    def test_cas_that_certify_each_other_end_nowhere(self, pki: PkiFactory, trust: Trust) -> None:
        other = PkiFactory(brand="Other")
        one = pki.authority(Role.BRAND, other.root, label="circle")
        ring = [
            one.certificate,
            pki.authority(Role.BRAND, one, label="circle", key=one.credential.key).certificate,
        ]
        leaf = pki.merchant(issuer=one)
        assert refused(leaf, trust, extra=ring) == "unknown_issuer"


class TestRoles:
    @pytest.mark.parametrize("role", [r for r in Role if r is not Role.MERCHANT])
    def test_a_role_that_was_not_asked_for_is_refused(self, merchant: Credential, trust: Trust, role: Role) -> None:
        assert refused(merchant, trust, roles=[role]) == "wrong_role"

    @pytest.mark.parametrize("issuer", ["brand", "cardholder_ca", "merchant_ca", "operations_ca", "root"])
    def test_only_the_gateway_ca_makes_gateways(self, pki: PkiFactory, trust: Trust, issuer: str) -> None:
        rogue = pki.gateway_encryption(issuer=getattr(pki, issuer))
        assert refused(rogue, trust) == "wrong_role"

    def test_a_merchant_ca_makes_no_cas(self, pki: PkiFactory, trust: Trust) -> None:
        unlimited = pki.authority(Role.MERCHANT_CA, pki.brand, label="unlimited")
        below = pki.authority(Role.GATEWAY_CA, unlimited, label="rogue")
        crls = CrlSet([*pki.crls(), unlimited.crl(NOW)])
        wide = replace(trust, crls=crls, intermediates=())
        assert refused(below.credential, wide) == "wrong_role"

    def test_statements_that_disagree_are_refused(self, pki: PkiFactory, trust: Trust) -> None:
        usage = role_extensions(Role.GATEWAY_ENCRYPTION)["key_usage"]
        assert refused(pki.merchant(replace={"key_usage": usage}), trust) == "bad_key_usage"
        policy = role_extensions(Role.CARDHOLDER)["policies"]
        assert refused(pki.merchant(replace={"policies": policy}), trust) == "wrong_role"


class TestTime:
    def test_a_certificate_holds_from_not_before_to_not_after_inclusive(self) -> None:
        fresh = PkiFactory(now=NOW - 30 * DAY)
        leaf = fresh.merchant(not_before=NOW - 2 * DAY, not_after=NOW + 2 * DAY)
        for moment in (NOW - 2 * DAY, NOW + 2 * DAY):
            assert validate_path(leaf.certificate, trust=fresh.trust(moment), now=moment, roles=[Role.MERCHANT])
        for moment, reason in ((NOW - 2 * DAY - SECOND, "not_yet_valid"), (NOW + 2 * DAY + SECOND, "expired")):
            assert refused(leaf, fresh.trust(moment), now=moment) == reason

    def test_a_certificate_is_judged_alike_however_often_it_is_read(self, merchant: Credential, trust: Trust) -> None:
        der = merchant.certificate.public_bytes(Encoding.DER)
        read = [x509.load_der_x509_certificate(der) for _ in range(4100)]  # more than are remembered
        for again in (*read, merchant.certificate):
            assert validate_path(again, trust=trust, now=NOW, roles=[Role.MERCHANT]).leaf == again

    def test_an_expired_issuer_spoils_the_path(self, pki: PkiFactory, trust: Trust) -> None:
        issuer = pki.authority(Role.MERCHANT_CA, pki.brand, label="old", not_after=NOW - SECOND)
        leaf = pki.merchant(issuer=issuer)
        assert refused(leaf, trust) == "expired"

    def test_an_expired_root_spoils_every_path(self, pki: PkiFactory) -> None:
        late = NOW + 3651 * DAY
        leaf = pki.merchant(not_after=late + DAY)
        assert refused(leaf, pki.trust(late), now=late) == "expired"

    def test_now_without_a_zone_is_a_mistake_of_the_caller(self, merchant: Credential, trust: Trust) -> None:
        with pytest.raises(ValueError, match="aware"):
            validate_path(merchant.certificate, trust=trust, now=NOW.replace(tzinfo=None), roles=[Role.MERCHANT])

    def test_time_is_judged_anew_each_time(self, merchant: Credential, trust: Trust) -> None:
        assert validate_path(merchant.certificate, trust=trust, now=NOW, roles=[Role.MERCHANT])
        assert refused(merchant, trust, now=NOW + 91 * DAY) == "crl_expired"
        assert validate_path(merchant.certificate, trust=trust, now=NOW, roles=[Role.MERCHANT])


class TestRevocation:
    def test_a_revoked_leaf_is_refused_from_the_next_crl_on(self, world: PkiFactory) -> None:
        shop = world.merchant()
        before = world.trust()
        assert validate_path(shop.certificate, trust=before, now=NOW, roles=[Role.MERCHANT])
        world.revoke(shop)
        assert refused(shop, world.trust()) == "revoked"
        assert validate_path(world.merchant().certificate, trust=world.trust(), now=NOW, roles=[Role.MERCHANT])

    @pytest.mark.parametrize("which", ["merchant_ca", "brand"])
    def test_a_revoked_ca_takes_everything_below_with_it(self, world: PkiFactory, which: str) -> None:
        shop = world.merchant()
        world.revoke(getattr(world, which).credential)
        assert refused(shop, world.trust()) == "revoked"

    @pytest.mark.parametrize("missing", [0, 1, 3])
    def test_every_ca_of_the_path_needs_a_crl(self, pki: PkiFactory, merchant: Credential, missing: int) -> None:
        crls = [crl for number, crl in enumerate(pki.crls()) if number != missing]
        assert refused(merchant, replace(pki.trust(), crls=CrlSet(crls))) == "crl_missing"

    def test_a_crl_of_a_ca_outside_the_path_is_not_needed(self, pki: PkiFactory, merchant: Credential) -> None:
        crls = [crl for number, crl in enumerate(pki.crls()) if number in {0, 1, 3}]
        trust = replace(pki.trust(), crls=CrlSet(crls))
        assert validate_path(merchant.certificate, trust=trust, now=NOW, roles=[Role.MERCHANT])

    @pytest.mark.parametrize("stale", [0, 1, 3])
    def test_every_crl_must_be_current(self, pki: PkiFactory, merchant: Credential, stale: int) -> None:
        crls = list(pki.crls())
        crls[stale] = pki.authorities[stale].crl(NOW, next_update=NOW - SECOND)
        assert refused(merchant, replace(pki.trust(), crls=CrlSet(crls))) == "crl_expired"

    def test_a_crl_from_the_future_is_refused(self, pki: PkiFactory, merchant: Credential) -> None:
        assert refused(merchant, pki.trust(NOW + DAY), now=NOW) == "crl_not_yet_valid"

    def test_a_forged_crl_is_refused(self, pki: PkiFactory, merchant: Credential) -> None:
        crls = list(pki.crls())
        crls[3] = pki.merchant_ca.crl(NOW, key=p256())
        assert refused(merchant, replace(pki.trust(), crls=CrlSet(crls))) == "bad_signature"


class TestHostileBags:
    """What strangers send along costs little time, and little memory."""

    def test_certificates_that_all_issue_each_other_are_compared_once_each(self, trust: Trust) -> None:
        key, who = p256(), name(cn="everybody")
        builder = (
            x509.CertificateBuilder()
            .subject_name(who)
            .issuer_name(who)
            .public_key(key.public_key())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
        )
        leaf, *others = (builder.serial_number(serial).sign(key, hashes.SHA256()) for serial in range(1, MAX_EXTRA + 2))
        before = _is_signed.cache_info().misses
        with pytest.raises(PathError) as error:
            validate_path(leaf, others, trust=trust, now=NOW, roles=tuple(Role))
        assert error.value.reason == "unknown_issuer"
        assert _is_signed.cache_info().misses - before <= (MAX_EXTRA + 1) * MAX_EXTRA

    def test_one_that_is_larger_than_any_is_refused_wherever_it_stands(
        self, pki: PkiFactory, merchant: Credential, trust: Trust
    ) -> None:
        padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.25.1.9"), bytes(LARGEST))
        large = pki.merchant(replace={"unknown": (padding, False)})
        assert refused(large, trust) == "bad_certificate"
        assert refused(merchant, trust, extra=(large.certificate,)) == "bad_certificate"


class TestCertificates:
    def test_an_unknown_critical_extension_is_refused(self, pki: PkiFactory, trust: Trust) -> None:
        for critical in (False, True):
            extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.25.1.9"), b"\x05\x00")
            leaf = pki.merchant(replace={"unknown": (extension, critical)})
            if critical:
                assert refused(leaf, trust) == "unknown_critical_extension"
            else:
                assert validate_path(leaf.certificate, trust=trust, now=NOW, roles=[Role.MERCHANT])

    @pytest.mark.parametrize(
        "extension",
        [
            x509.NameConstraints(permitted_subtrees=[x509.DNSName("example")], excluded_subtrees=None),
            x509.PolicyConstraints(require_explicit_policy=0, inhibit_policy_mapping=None),
            x509.InhibitAnyPolicy(0),
        ],
        ids=lambda e: type(e).__name__,
    )
    def test_a_constraint_that_we_do_not_process_is_refused(
        self, pki: PkiFactory, trust: Trust, extension: x509.ExtensionType
    ) -> None:
        extensions = {**role_extensions(Role.MERCHANT_CA), "constraint": (extension, True)}
        issuer = Authority(pki.issue(pki.brand, name(cn="Constrained"), extensions), Role.MERCHANT_CA)
        assert refused(pki.merchant(issuer=issuer), trust) == "unknown_critical_extension"

    def test_a_repeated_extension_is_refused(self, pki: PkiFactory, trust: Trust) -> None:
        leaf = pki.merchant()
        tree = parse(leaf.der)
        tree.at(0, 7, 0).children.append(tree.at(0, 7, 0, 0))
        assert refused(resign(leaf, tree, pki.merchant_ca), trust) == "bad_extension"

    def test_a_weak_rsa_key_is_refused(self, pki: PkiFactory, trust: Trust) -> None:
        assert refused(pki.merchant(key=rsa_key(0, 2048)), trust) == "weak_key"

    def test_a_weak_ca_key_spoils_the_path(self, pki: PkiFactory, trust: Trust) -> None:
        issuer = pki.authority(Role.MERCHANT_CA, pki.brand, label="weak", key=rsa_key(0, 2048))
        assert refused(pki.merchant(issuer=issuer), trust) == "weak_key"

    def test_other_signature_algorithms_are_refused(self, pki: PkiFactory, trust: Trust) -> None:
        assert refused(pki.merchant(algorithm=hashes.SHA512()), trust) == "weak_algorithm"

    def test_other_kinds_of_keys_are_refused(self, pki: PkiFactory, trust: Trust) -> None:
        for key in (ec.generate_private_key(ec.SECP521R1()), ed25519.Ed25519PrivateKey.generate()):
            leaf = pki.merchant(key=key)
            assert refused(leaf, trust) == "weak_algorithm"

    def test_an_unheard_of_kind_of_key_is_refused(self, pki: PkiFactory, trust: Trust) -> None:
        leaf = pki.merchant()
        tree = parse(leaf.der)
        tree.at(0, 6, 0, 0).content = bytes.fromhex("2a8648ce3d0263")
        assert refused(resign(leaf, tree, pki.merchant_ca), trust) == "weak_algorithm"

    def test_version_1_is_refused(self, pki: PkiFactory, trust: Trust) -> None:
        leaf = pki.merchant()
        tree = parse(leaf.der)
        del tree.at(0).children[7], tree.at(0).children[0]
        assert refused(resign(leaf, tree, pki.merchant_ca), trust) == "bad_certificate"

    @pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
    def test_a_serial_number_that_is_not_positive_is_refused(self, pki: PkiFactory, trust: Trust) -> None:
        leaf = pki.merchant()
        tree = parse(leaf.der)
        tree.at(0, 1).content = b"\x00"
        assert refused(resign(leaf, tree, pki.merchant_ca), trust) == "bad_certificate"

    def test_a_signature_that_is_not_whole_octets_is_refused(self, pki: PkiFactory, trust: Trust) -> None:
        leaf = pki.merchant()
        twin = x509.load_der_x509_certificate(with_unused_bit(lambda: pki.merchant(key=leaf.key).der))
        twin.verify_directly_issued_by(pki.merchant_ca.certificate)
        assert refused(replace(leaf, certificate=twin), trust) == "bad_certificate"

    def test_an_unreadable_name_is_refused(self, pki: PkiFactory, trust: Trust) -> None:
        leaf = pki.merchant()
        tree = parse(leaf.der)
        tree.at(0, 5, 2, 0, 1).content = b"\xff\xfe"
        assert refused(resign(leaf, tree, pki.merchant_ca), trust) == "bad_certificate"


class TestOpenSslAgrees:
    """OpenSSL comes to the same verdict where it can see the reason, and the table says where it cannot."""

    def verdict(self, pki: PkiFactory, leaf: Credential, crls: Sequence[x509.CertificateRevocationList]) -> bool:
        with tempfile.TemporaryDirectory() as temporary:
            home = Path(temporary)
            (home / "root.pem").write_bytes(pem(pki.root.certificate))
            (home / "chain.pem").write_bytes(pem(*leaf.chain))
            (home / "crls.pem").write_bytes(pem(*crls))
            (home / "leaf.pem").write_bytes(pem(leaf.certificate))
            return openssl_accepts(
                "verify", *attime(NOW), "-x509_strict", "-CAfile", home / "root.pem", "-untrusted", home / "chain.pem",
                "-crl_check_all", "-CRLfile", home / "crls.pem", home / "leaf.pem",
            )  # fmt: skip

    def test_on_honest_leaves(self, pki: PkiFactory) -> None:
        for leaf in (pki.cardholder(), pki.merchant(), pki.gateway_encryption(), pki.officer(), pki.service()):
            assert self.verdict(pki, leaf, pki.crls())

    def test_on_revocation_and_time(self, world: PkiFactory) -> None:
        shop = world.merchant()
        assert not self.verdict(world, world.merchant(not_after=NOW - SECOND), world.crls())
        assert not self.verdict(world, shop, world.crls()[:3])
        assert not self.verdict(world, shop, world.crls(NOW - 2 * DAY))
        world.revoke(shop)
        assert not self.verdict(world, shop, world.crls())

    def test_but_it_knows_nothing_of_roles(self, pki: PkiFactory, trust: Trust) -> None:
        rogue = pki.gateway_signing(issuer=pki.merchant_ca)
        assert self.verdict(pki, rogue, pki.crls())
        assert refused(rogue, trust) == "wrong_role"
