"""The certificate extensions of KWBP."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from pki import oids
from pki.algorithms import SealingSuite
from pki.errors import CertificateError
from pki.extensions import (
    AccountBinding,
    CertificateType,
    GatewayData,
    IdentityChecked,
    MerchantData,
    OfficerData,
    RoleGrant,
    SealingSuites,
    extensions_of,
)
from tests.support.der_surgery import parse
from tests.support.judges import certtool, openssl
from tests.support.pki_factory import IBAN, Credential, PkiFactory, pem

MERCHANT = MerchantData(merchant_id="M-1", acquirer_bin="603799", name="Bookshop", country=364, online=True)
GATEWAY = GatewayData(gateway_id="GW-1", acquirer_bin="603799")
OFFICER = OfficerData(person_id="officer-1", organisation="RA", roles=("vetting", "approving"))
START, END = datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 7, 8, tzinfo=UTC)
STAND_IN = OfficerData(
    person_id="officer-2",
    organisation="RA",
    roles=(),
    grants=(RoleGrant("vetting", ("merchant", "gateway"), START, END), RoleGrant("security", None, START, END)),
)
BINDING = AccountBinding.of(IBAN, b"\x01" * 16)
SUITES = SealingSuites(("oaep-sha256", "oaep-sha1"))
TYPE = CertificateType(frozenset({"mer"}))
Extension = (
    CertificateType | MerchantData | GatewayData | OfficerData | AccountBinding | SealingSuites | IdentityChecked
)
CHECKED = IdentityChecked(START)
ALL: list[Extension] = [TYPE, MERCHANT, GATEWAY, OFFICER, STAND_IN, BINDING, SUITES, CHECKED]


def with_extension(pki: PkiFactory, oid: x509.ObjectIdentifier, der: bytes) -> x509.Certificate:
    return pki.service(replace={"own": (x509.UnrecognizedExtension(oid, der), False)}).certificate


@pytest.mark.parametrize("value", ALL, ids=lambda v: type(v).__name__)
def test_an_extension_is_read_back_from_a_certificate(pki: PkiFactory, value: Extension) -> None:
    extension = value.to_extension()
    certificate = with_extension(pki, extension.oid, extension.value)
    assert type(value).from_certificate(certificate) == value


@pytest.mark.parametrize("value", ALL, ids=lambda v: type(v).__name__)
def test_an_absent_extension_is_none(pki: PkiFactory, value: Extension) -> None:
    assert type(value).from_certificate(pki.operations_ca.certificate) is None


@pytest.mark.parametrize("value", ALL, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize(
    "spoil", [lambda der: der + b"\x00", lambda der: der[:-1], lambda _: b"", lambda _: b"\x05\x00"]
)
def test_a_malformed_extension_is_refused(pki: PkiFactory, value: Extension, spoil: Callable[[bytes], bytes]) -> None:
    certificate = with_extension(pki, value.OID, spoil(value.to_der()))
    with pytest.raises(CertificateError) as refused:
        type(value).from_certificate(certificate)
    assert refused.value.reason == "bad_extension"


def test_a_repeated_extension_is_refused(merchant: Credential) -> None:
    tree = parse(merchant.der)
    extensions = tree.at(0, 7, 0)
    extensions.children.append(extensions.children[-1])
    certificate = x509.load_der_x509_certificate(tree.encode())
    with pytest.raises(CertificateError) as refused:
        extensions_of(certificate)
    assert refused.value.reason == "bad_extension"


def test_tools_show_the_extensions_as_non_critical(merchant: Credential) -> None:
    shown = openssl("x509", "-noout", "-text", stdin=pem(merchant.certificate)).decode()
    for oid in (oids.SET_CERTIFICATE_TYPE, oids.SET_MERCHANT_DATA, oids.EXT_ACCOUNT_BINDING):
        assert not extensions_of(merchant.certificate).get_extension_for_oid(oid).critical
    assert "Bookshop" in shown
    assert b"M-1" in certtool("--certificate-info", stdin=pem(merchant.certificate))


class TestCertificateType:
    @pytest.mark.parametrize(
        ("bits", "der"),
        [
            ({"card"}, "03020780"),
            ({"mer"}, "03020640"),
            ({"pgwy"}, "03020520"),
            ({"cca"}, "03020410"),
            ({"bca"}, "03020001"),
            ({"rca"}, "0303070080"),
            ({"acq"}, "0303060040"),
            ({"card", "acq"}, "0303068040"),
        ],
    )
    def test_named_bits_are_written_without_trailing_zeros(self, bits: set[str], der: str) -> None:
        assert CertificateType(frozenset(bits)).to_der().hex() == der

    @pytest.mark.parametrize(
        "der", ["030100", "03020040", "03020700", "0303050020", "030304004000", "04020640"], ids=str
    )
    def test_other_bit_strings_are_refused(self, pki: PkiFactory, der: str) -> None:
        certificate = with_extension(pki, CertificateType.OID, bytes.fromhex(der))
        with pytest.raises(CertificateError):
            CertificateType.from_certificate(certificate)

    @pytest.mark.parametrize("bits", [set(), {"king"}, {"mer", "king"}])
    def test_only_sets_ten_types_can_be_named(self, bits: set[str]) -> None:
        with pytest.raises(ValueError, match="certificateType"):
            CertificateType(frozenset(bits))

    @given(st.sets(st.sampled_from(CertificateType.NAMES), min_size=1))
    def test_every_set_of_bits_survives(self, bits: set[str]) -> None:
        value = CertificateType(frozenset(bits))
        assert CertificateType.from_der(value.to_der()) == value


class TestMerchantData:
    def test_the_structure_is_sets_own(self) -> None:
        tree = parse(MERCHANT.to_der())
        assert [child.tag for child in tree.children] == [0x0C, 0x12, 0x30, 0x02]  # merAuthFlag TRUE is the default
        assert tree.at(2, 0, 0).tag == 0xA1

    def test_an_offline_merchant_says_so(self) -> None:
        offline = MerchantData(merchant_id="M-1", acquirer_bin="60379900", name="کتاب", country=364, online=False)
        assert parse(offline.to_der()).at(4).content == b"\x00"
        assert MerchantData.from_der(offline.to_der()) == offline

    @pytest.mark.parametrize(
        "change",
        [
            {"merchant_id": ""},
            {"merchant_id": "M" * 31},
            {"name": ""},
            {"name": "B" * 51},
            {"acquirer_bin": "60379"},
            {"acquirer_bin": "603799000"},
            {"acquirer_bin": "60379x"},
            {"country": 0},
            {"country": 1000},
        ],
        ids=str,
    )
    def test_values_out_of_range_are_refused(self, change: dict[str, object]) -> None:
        fields = {"merchant_id": "M-1", "acquirer_bin": "603799", "name": "Bookshop", "country": 364, "online": True}
        with pytest.raises(ValueError):
            MerchantData(**{**fields, **change})  # type: ignore[arg-type]  # fields of several types, by name


class TestGatewayData:
    @pytest.mark.parametrize(
        ("gateway_id", "acquirer_bin"), [("", "603799"), ("G" * 31, "603799"), ("GW-1", "1"), ("GW-1", "")]
    )
    def test_values_out_of_range_are_refused(self, gateway_id: str, acquirer_bin: str) -> None:
        with pytest.raises(ValueError):
            GatewayData(gateway_id=gateway_id, acquirer_bin=acquirer_bin)


class TestAccountBinding:
    def test_it_commits_to_one_account_under_one_salt(self) -> None:
        assert AccountBinding.of(IBAN, b"\x01" * 16) == BINDING
        assert AccountBinding.of(IBAN, b"\x02" * 16).digest != BINDING.digest
        assert AccountBinding.of("IR570560123456789012345679", b"\x01" * 16).digest != BINDING.digest
        assert IBAN.encode() not in BINDING.to_der()

    @pytest.mark.parametrize("iban", ["", "IR57 0560 1234 5678 9012 3456 78", "ir570560123456789012345678", "IR57"])
    def test_only_the_electronic_format_is_taken(self, iban: str) -> None:
        with pytest.raises(ValueError, match="IBAN"):
            AccountBinding.of(iban, b"\x01" * 16)

    @pytest.mark.parametrize(("salt", "digest"), [(15, 32), (16, 31), (0, 32)])
    def test_sizes_are_fixed(self, salt: int, digest: int) -> None:
        with pytest.raises(ValueError):
            AccountBinding(salt=bytes(salt), digest=bytes(digest))


class TestOfficerData:
    @pytest.mark.parametrize(
        ("person", "organisation", "roles"),
        [
            ("", "RA", ("vetting",)),
            ("p" * 65, "RA", ("vetting",)),
            ("officer-1", "", ("vetting",)),
            ("officer-1", "RA", ()),
            ("officer-1", "RA", ("vetting", "vetting")),
            ("officer-1", "RA", ("",)),
            ("officer-1", "RA", tuple(f"r{n}" for n in range(17))),
        ],
    )
    def test_values_out_of_range_are_refused(self, person: str, organisation: str, roles: tuple[str, ...]) -> None:
        with pytest.raises(ValueError):
            OfficerData(person_id=person, organisation=organisation, roles=roles)

    def test_without_grants_the_bytes_are_those_of_certificates_before_there_were_any(self) -> None:
        assert OfficerData("p", "o", ("a",)).to_der().hex() == "300b0c01700c016f30030c0161"
        assert OfficerData.from_der(bytes.fromhex("300b0c01700c016f30030c0161")).grants == ()

    def test_grants_are_kept_to_the_second_in_utc(self) -> None:
        tehran = timezone(timedelta(hours=3, minutes=30))
        local = RoleGrant("vetting", None, START.astimezone(tehran), END.astimezone(tehran))
        read = OfficerData.from_der(OfficerData("officer-1", "RA", (), (local,)).to_der())
        assert read.grants == (RoleGrant("vetting", None, START, END),)
        assert read.grants[0].not_before.tzinfo is UTC

    def test_a_grant_is_in_effect_from_its_first_second_and_not_at_its_last(self) -> None:
        grant = RoleGrant("vetting", ("merchant",), START, END)
        second = timedelta(seconds=1)
        at = [START - second, START, END - second, END]
        assert [grant.in_effect(each) for each in at] == [False, True, True, False]
        assert [OfficerData("p", "o", ("auditor",), (grant,)).held(each) for each in at] == [
            {"auditor"},
            {"auditor", "vetting"},
            {"auditor", "vetting"},
            {"auditor"},
        ]

    def test_a_scope_covers_its_classes_and_nothing_that_is_of_no_class(self) -> None:
        scoped = RoleGrant("vetting", ("merchant",), START, END)
        assert [scoped.covers(each) for each in ("merchant", "gateway", None)] == [True, False, False]
        assert RoleGrant("vetting", None, START, END).covers(None)

    @pytest.mark.parametrize(
        "changes",
        [
            {"role": ""},
            {"scope": ()},
            {"scope": ("merchant", "merchant")},
            {"scope": tuple(f"c{n}" for n in range(17))},
            {"scope": ("",)},
            {"not_before": START.replace(tzinfo=None)},
            {"not_after": END.replace(microsecond=1)},
            {"not_after": START},
        ],
    )
    def test_a_grant_out_of_range_is_refused(self, changes: dict[str, Any]) -> None:
        fields: dict[str, Any] = {"role": "vetting", "scope": None, "not_before": START, "not_after": END}
        assert RoleGrant(**fields)
        with pytest.raises(ValueError):
            RoleGrant(**{**fields, **changes})

    def test_at_most_sixteen_grants_and_no_list_of_none(self) -> None:
        grant = RoleGrant("vetting", None, START, END)
        with pytest.raises(ValueError, match="sixteen"):
            OfficerData("p", "o", ("a",), (grant,) * 17)
        with pytest.raises(ValueError, match="without a grant"):
            OfficerData.from_der(bytes.fromhex("300d0c01700c016f30030c0161a000"))


class TestSealingSuites:
    def test_they_are_named_strongest_first(self) -> None:
        members = parse(SUITES.to_der()).children
        assert [member.encode() for member in members] == [
            SealingSuite.OAEP_SHA256.identifier,
            SealingSuite.OAEP_SHA1.identifier,
        ]

    def test_other_capabilities_are_ignored(self) -> None:
        tree = parse(SUITES.to_der())
        tree.children.insert(0, parse(bytes.fromhex("300b060960864801650304012e")))  # aes256-GCM
        assert SealingSuites.from_der(tree.encode()) == SUITES

    @pytest.mark.parametrize("names", [(), ("rsa-pkcs1",), ("oaep-sha1", "oaep-sha1")])
    def test_only_known_suites_can_be_named_and_once(self, names: tuple[str, ...]) -> None:
        with pytest.raises(ValueError, match="suite"):
            SealingSuites(names)

    def test_capabilities_without_any_of_ours_are_refused(self, pki: PkiFactory) -> None:
        only_gcm = bytes.fromhex("300d300b060960864801650304012e")
        with pytest.raises(CertificateError):
            SealingSuites.from_certificate(with_extension(pki, SealingSuites.OID, only_gcm))


class TestIdentityChecked:
    def test_it_is_a_time_in_whole_seconds(self) -> None:
        assert CHECKED.to_der() == b"\x18\x0f20260701000000Z"
        for time in (START.replace(tzinfo=None), START.replace(microsecond=1)):
            with pytest.raises(ValueError, match="whole seconds"):
                IdentityChecked(time)

    def test_another_part_of_the_world_says_the_same(self) -> None:
        tehran = timezone(timedelta(hours=3, minutes=30))
        assert IdentityChecked(START.astimezone(tehran)).to_der() == CHECKED.to_der()

    def test_without_it_the_certificate_began_with_the_check(self, pki: PkiFactory, merchant: Credential) -> None:
        assert IdentityChecked.of(merchant.certificate) == merchant.certificate.not_valid_before_utc
        assert IdentityChecked.of(with_extension(pki, IdentityChecked.OID, CHECKED.to_der())) == START
