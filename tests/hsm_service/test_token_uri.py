"""PKCS#11 URIs: what RFC 7512 allows is read and written back; everything else, and every PIN, is refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hsm_service.token_uri import TYPES, TokenUri, TokenUriError

EXAMPLES = {
    # RFC 7512 3, except those with pin-value, vendor attributes, or a module found by its name
    "pkcs11:": TokenUri(),
    "pkcs11:object=my-pubkey;type=public": TokenUri(object="my-pubkey", type="public"),
    "pkcs11:object=my-key;type=private?pin-source=file:/etc/token": TokenUri(
        object="my-key", type="private", pin_source="file:/etc/token"
    ),
    "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;"
    "object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=?pin-source=file:/etc/token_pin": TokenUri(
        token="The Software PKCS#11 Softtoken",
        manufacturer="Snake Oil, Inc.",
        model="1.0",
        object="my-certificate",
        type="cert",
        id=bytes.fromhex("69953E5CF4BDEC91"),
        serial="",
        pin_source="file:/etc/token_pin",
    ),
    "pkcs11:object=my-sign-key;type=private?module-name=mypkcs11": TokenUri(
        object="my-sign-key", type="private", module_name="mypkcs11"
    ),
    "pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc.?module-path=/mnt/lib%26x.so": (
        TokenUri(token="Software PKCS#11 softtoken", manufacturer="Snake Oil, Inc.", module_path="/mnt/lib&x.so")
    ),
    "pkcs11:slot-description=Sun%20Metaslot": TokenUri(slot_description="Sun Metaslot"),
    "pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;library-description=Soft%20Token%20Library;library-version=1.23": (
        TokenUri(
            library_manufacturer="Snake Oil, Inc.", library_description="Soft Token Library", library_version="1.23"
        )
    ),
    "pkcs11:slot-id=327": TokenUri(slot_id=327),
    "PKCS11:token=%DA%A9%D9%84%DB%8C%D8%AF": TokenUri(token="کلید"),
    "pkcs11:token=a&b=c@d?module-path=/lib/x?y|z": TokenUri(token="a&b=c@d", module_path="/lib/x?y|z"),
}


@pytest.mark.parametrize("text", EXAMPLES)
def test_a_uri_is_read(text: str) -> None:
    assert TokenUri.parse(text) == EXAMPLES[text]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("token=ca", "begins with"),
        ("https://ca", "begins with"),
        ("pkcs11:token=ca;token=ca", "twice"),
        ("pkcs11:?module-path=/a&module-path=/b", "twice"),
        ("pkcs11:token=ca;", "name=value"),
        ("pkcs11:token", "name=value"),
        ("pkcs11:=ca", "name=value"),
        ("pkcs11:token=ca?", "empty"),
        ("pkcs11:token=ca?pin-source=a&", "name=value"),
        ("pkcs11:x-vendor=1", "no attribute"),
        ("pkcs11:Token=ca", "no attribute"),
        ("pkcs11:slot_id=1", "no attribute"),
        ("pkcs11:module-path=/a", "after the"),
        ("pkcs11:?token=ca", "before the"),
        ("pkcs11:token=a b", "percent-encoded"),
        ("pkcs11:token=a/b", "percent-encoded"),
        ("pkcs11:token=a%2", "percent-encoded"),
        ("pkcs11:token=a%zz", "percent-encoded"),
        ("pkcs11:token=a#b", "percent-encoded"),
        ("pkcs11:token=کلید", "percent-encoded"),
        ("pkcs11:token=a\n", "percent-encoded"),
        ("pkcs11:token=%FF", "UTF-8"),
        ("pkcs11:token=a%00", "NUL"),
        ("pkcs11:token=" + "x" * 33, "32 bytes"),
        ("pkcs11:serial=" + "x" * 17, "16 bytes"),
        ("pkcs11:type=key", "type is none of"),
        ("pkcs11:library-version=1.2.3", "library-version"),
        ("pkcs11:slot-id=one", "not a number"),
        ("pkcs11:slot-id=-1", "not a number"),
        ("pkcs11:slot-id=99999999999999999999", "CK_ULONG"),
        ("pkcs11:slot-id=" + "9" * 5000, "not a number"),
        ("pkcs11:?module-path=lib/softhsm.so", "not absolute"),
    ],
)
def test_what_the_rfc_does_not_allow_is_refused(text: str, reason: str) -> None:
    with pytest.raises(TokenUriError, match=reason):
        TokenUri.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11:token=ca?pin-value=73019284",
        "pkcs11:token=ca;pin-value=73019284",
        "pkcs11:token=ca?pin-value=73019284&pin-source=file:/a",
        "pkcs11:token=ca?PIN=73019284",
        "pkcs11:token=ca?73019284",
        "pkcs11:token=ca?pin-source=a b73019284",
        "pkcs11:slot-id=a73019284",
        "73019284",
    ],
)
def test_a_pin_in_a_uri_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(TokenUriError) as caught:
        TokenUri.parse(text)
    assert "73019284" not in str(caught.value)
    if "pin-value" in text:
        assert "pin-source" in str(caught.value)


def texts(longest: int = 60) -> st.SearchStrategy[str | None]:
    value = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=longest)
    return st.none() | value.filter(lambda text: len(text.encode()) <= longest)


@given(
    st.builds(
        TokenUri,
        token=texts(32),
        manufacturer=texts(32),
        serial=texts(16),
        model=texts(16),
        library_manufacturer=texts(32),
        library_description=texts(),
        library_version=st.none() | st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3})?", fullmatch=True),
        object=texts(),
        type=st.none() | st.sampled_from(sorted(TYPES)),
        id=st.none() | st.binary(max_size=20),
        slot_description=texts(),
        slot_manufacturer=texts(),
        slot_id=st.none() | st.integers(0, 2**64 - 1),
        pin_source=texts(),
        module_path=texts(50).map(lambda text: None if text is None else "/" + text),
        module_name=texts(),
    )
)
@example(TokenUri(token="a;b&c?d=e/f%g", pin_source="|a&b;c#d", module_path="/a b", id=b"\x00\xff"))
def test_what_is_written_is_read_back(uri: TokenUri) -> None:
    assert TokenUri.parse(str(uri)) == uri
    assert str(uri).isascii()
