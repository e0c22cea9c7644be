"""The generic layer, where PKITS does not reach it."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509

from pki.crl import CrlSet
from pki.errors import PathError
from pki.policy_tree import PolicySettings
from pki.rfc5280 import is_signed, process
from pki.roles import Role
from pki.validator import Validator
from tests.support.pki_factory import NOW, Authority, PkiFactory, role_extensions, rsa_key


@pytest.fixture(scope="module")
def world() -> PkiFactory:
    return PkiFactory()


def chain(world: PkiFactory) -> list[x509.Certificate]:
    return [a.certificate for a in (world.root, world.brand, world.merchant_ca)] + [world.merchant().certificate]


def validator(world: PkiFactory, *more: x509.Certificate, crls: CrlSet | None = None) -> Validator:
    authorities = [authority.certificate for authority in world.authorities[1:]]
    return Validator(world.root.certificate, [*authorities, *more], crls or CrlSet(world.crls()))


def refusal(act: Any, *arguments: Any) -> str:
    with pytest.raises(PathError) as error:
        act(*arguments)
    return error.value.reason


def test_the_policies_of_a_path_of_ours_are_the_leafs(world: PkiFactory) -> None:
    settings = PolicySettings(frozenset(Role.MERCHANT.profile.policies), explicit_policy=True)
    assert process(chain(world), settings) == Role.MERCHANT.profile.policies
    other = PolicySettings(frozenset(Role.OFFICER.profile.policies), explicit_policy=True)
    assert refusal(process, chain(world), other) == "policy_refused"


def test_a_signature_counts_only_with_a_key_and_an_algorithm_that_fit(world: PkiFactory) -> None:
    root, brand, *_ = chain(world)
    assert is_signed(brand, root)
    assert not is_signed(root, brand)
    rsa_world = PkiFactory(make_key=lambda: rsa_key(0))
    assert is_signed(rsa_world.brand.certificate, rsa_world.root.certificate)
    assert not is_signed(brand, rsa_world.root.certificate)
    assert not is_signed(rsa_world.brand.certificate, root)


def test_names_must_chain_though_the_key_fits(world: PkiFactory) -> None:
    root, _, mca, leaf = chain(world)
    assert refusal(process, [root, mca, leaf]) == "unknown_issuer"


class TestValidator:
    def test_an_honest_path_is_found(self, world: PkiFactory) -> None:
        leaf = world.merchant().certificate
        assert [*validator(world).validate(leaf, NOW)] == [*chain(world)[:3], leaf]

    def test_a_stranger_has_no_path(self, world: PkiFactory) -> None:
        stranger = PkiFactory(brand="Other").merchant().certificate
        assert refusal(validator(world).validate, stranger, NOW) == "unknown_issuer"

    def test_not_every_path_of_many_is_tried(self, world: PkiFactory) -> None:
        """Nine brands of one name and nine merchant CAs: 81 chains of names to a leaf that none of them signed."""
        strangers = [PkiFactory() for _ in range(8)]
        authorities = [a.certificate for w in (world, *strangers) for a in (w.brand, w.merchant_ca)]
        tried = []

        def signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
            tried.append(certificate)
            return certificate != leaf

        leaf = PkiFactory().merchant().certificate
        open_minded = Validator(world.root.certificate, authorities, CrlSet(), signed=signed)
        assert refusal(open_minded.validate, leaf, NOW) == "bad_signature"
        assert tried.count(leaf) == 64

    def test_lists_that_speak_for_their_own_signer_do_not_count(self, world: PkiFactory) -> None:
        """Two keys of one CA, each certified by the other's lists only."""
        mca = world.merchant_ca
        extensions = role_extensions(Role.MERCHANT_CA)
        other = Authority(world.issue(mca, mca.certificate.subject, extensions), Role.MERCHANT_CA)
        lists = CrlSet([*(a.crl(NOW) for a in (world.root, world.brand)), other.crl(NOW)])
        leaf = world.merchant().certificate
        assert refusal(validator(world, other.certificate, crls=lists).validate, leaf, NOW) == "crl_missing"
