"""Profiles are data: closed to what they do not know, and always saying what relying parties will read."""

from __future__ import annotations

import pytest
import yaml

from ca.errors import ProfileError
from ca.profile import EXTENDED_KEY_USAGES, Profile, load_profile, profiles
from ca.publication import Publication
from cps.entitlement import KINDS
from pki.roles import Role
from tests.support.pki_factory import p256, rsa_key

GATEWAY = yaml.safe_dump(profiles()["gateway-encryption"].model_dump(mode="json", exclude_none=True))


def changed(**fields: object) -> str:
    return yaml.safe_dump({**yaml.safe_load(GATEWAY), **fields})


def test_every_role_has_a_profile_issued_by_the_role_that_may() -> None:
    assert {profile.role for profile in profiles().values()} == set(Role)
    for profile in profiles().values():
        assert profile.issuer in ({"self"} if profile.role is Role.ROOT else profile.role.profile.issuers)


def test_a_profile_reads_back_as_itself() -> None:
    assert load_profile(GATEWAY) == profiles()["gateway-encryption"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("extra_forbidden", changed(colour="blue")),
        ("key_usage", changed(key_usage=["digital_signature"])),
        ("set_certificate_type", changed(set_certificate_type=["mer"])),
        ("policies", changed(policies=["service"])),
        ("ca:", changed(ca={"path_length": 0, "crl": {"lifetime": "P2D", "renew_before": "P1D"}})),
        ("is issued by", changed(issuer="merchant-ca")),
        ("either required or optional", changed(subject={"required": ["common_name"], "optional": ["common_name"]})),
        ("greater_than", changed(validity={"max": "P0D", "backdate": "PT0S"})),
        ("greater_than_equal", changed(key={"rsa": 2048})),
        ("not as expected", "name: [unclosed"),
    ],
)
def test_a_profile_with_one_thing_wrong_is_refused(wrong: str, text: str) -> None:
    with pytest.raises(ProfileError, match=wrong):
        load_profile(text)


def test_a_crl_is_renewed_before_it_ends() -> None:
    brand = profiles()["brand"].model_dump(mode="json", exclude_none=True)
    brand["ca"]["crl"]["renew_before"] = "P3D"

    with pytest.raises(ProfileError, match="renewed after it was made"):
        load_profile(yaml.safe_dump(brand))


def test_keys_are_certified_by_kind_and_size() -> None:
    def refusal(profile: str, key: object) -> str | None:
        return profiles()[profile].key.refusal(key)

    assert refusal("merchant-signing", p256().public_key()) is None
    assert refusal("merchant-signing", rsa_key(0).public_key()) is None
    assert refusal("gateway-encryption", p256().public_key()) == "curve P-256 is not certified by this profile"
    assert refusal("root", rsa_key(0).public_key()) == "RSA of 3072 bits; at least 4096 are needed"
    assert refusal("merchant-signing", "a string") == "keys of type str are not certified"


def test_only_encryption_keys_encipher() -> None:
    enciphering = [profile.name for profile in profiles().values() if "key_encipherment" in profile.key_usage]
    assert enciphering == ["gateway-encryption"]


def test_only_officers_and_tls_certificates_can_log_in() -> None:
    logins = {
        profile.name: profile.extended_key_usage
        for profile in profiles().values()
        if {"client_auth", "server_auth"}.intersection(profile.extended_key_usage)
    }
    assert logins == {"officer": ("client_auth",), "service-tls": ("server_auth", "client_auth")}


def test_responders_of_status_and_time_do_nothing_else() -> None:
    for profile in profiles().values():
        if profile.role is Role.OCSP_RESPONDER:
            assert (profile.extended_key_usage, profile.ocsp_no_check) == (("ocsp_signing",), True)
        elif profile.role is Role.TIMESTAMP_AUTHORITY:
            assert (profile.extended_key_usage, profile.critical_usage) == (("time_stamping",), True)
        else:
            assert not {"ocsp_signing", "time_stamping"}.intersection(profile.extended_key_usage)
            assert not profile.critical_usage
            assert not profile.ocsp_no_check


def test_every_authority_has_a_profile_for_its_own_responder() -> None:
    responders = {profile.issuer for profile in profiles().values() if profile.role is Role.OCSP_RESPONDER}
    assert responders == {profile.name for profile in profiles().values() if profile.ca and profile.name != "root"}


def test_profiles_are_frozen() -> None:
    profile: Profile = profiles()["officer"]
    with pytest.raises(ValueError, match="frozen"):
        profile.name = "other"  # type: ignore[misc]  # that it cannot be done is what is tested


def test_addresses_of_a_publication_fit_a_certificate() -> None:
    publication = Publication("http://repository.example/", "urn:kwbp:cps:1.0.0")

    assert publication.crl_url("merchant-ca") == "http://repository.example/crls/merchant-ca.crl"
    assert publication.certificate_url("brand") == "http://repository.example/cas/brand.cer"
    for repository in ("ldap://repository.example", "http://", "http://مخزن.example"):
        with pytest.raises(ProfileError):
            Publication(repository, "urn:kwbp:cps:1.0.0")
    with pytest.raises(ProfileError):
        Publication("http://repository.example", "no scheme")


def test_every_kind_of_members_certificate_has_the_profile_that_it_names() -> None:
    for kind in KINDS.values():
        profile = profiles()[kind.profile]
        assert profile.role is kind.role
        assert {EXTENDED_KEY_USAGES[usage] for usage in profile.extended_key_usage} == kind.extended_key_usage
