"""Hosts and origins: RFC 1123 labels, IDNA 2008, and no host that reads as another one's."""

from __future__ import annotations

import pytest

from cps.written_host import check_host, check_origin
from cps.written_text import TextError

HOSTS = [
    "localhost",
    "127.0.0.1",
    "shop-1.bookshop.example",
    "xn--hgbk6aj7f53bba.example",
    "x" * 63 + ".example",
    "1.a",
]
ORIGINS = ["https://bookshop.example", "https://localhost:8443", "https://127.0.0.1:1", "https://a.example:65535"]


def international(letters: str) -> str:
    return f"xn--{letters.encode('punycode').decode()}.example"


@pytest.mark.parametrize("host", HOSTS)
def test_hosts(host: str) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize("origin", ORIGINS)
def test_origins(origin: str) -> None:
    assert check_origin(origin) == origin


@pytest.mark.parametrize(
    ("host", "told"),
    [
        pytest.param("", "not empty", id="empty"),
        pytest.param("a..example", "not empty", id="empty-label"),
        pytest.param("a.example.", "not empty", id="root-dot"),
        pytest.param("-a.example", "begins and ends", id="hyphen-first"),
        pytest.param("a-.example", "begins and ends", id="hyphen-last"),
        pytest.param("x" * 64 + ".example", "at most 253 characters, each of its labels 63", id="label-too-long"),
        pytest.param(".".join(["x" * 60] * 5), "at most 253 characters", id="too-long"),
        pytest.param("Bookshop.example", "U+0042 LATIN CAPITAL LETTER B is not written in a host", id="capital"),
        pytest.param("book_shop.example", "U+005F LOW LINE is not written in a host", id="underscore"),
        pytest.param("*.example", "U+002A ASTERISK is not written in a host", id="wildcard"),
        pytest.param("b\u043eokshop.example", "U+043E CYRILLIC SMALL LETTER O is not written", id="cyrillic"),
        pytest.param("کتاب.example", "U+06A9 ARABIC LETTER KEHEH is not written in a host", id="not-in-xn-form"),
        pytest.param("1.2.3", "ends in a number", id="three-numbers"),
        pytest.param("127.0.0.256", "ends in a number", id="no-octet"),
        pytest.param("ab--c.example", "not one that IDNA 2008 makes", id="reserved"),
        pytest.param("xn--a.example", "not one that IDNA 2008 makes", id="no-punycode"),
        pytest.param("xn--a-ecp.example", "not one that IDNA 2008 makes", id="undone"),
        pytest.param(international("b\u043e\u043ekshop"), "CYRILLIC SMALL LETTER O is of no alphabet", id="idn-mixed"),
        pytest.param(international("\u0430\u0440\u0440\u04cf\u0435"), "U+0430 CYRILLIC", id="idn-cyrillic"),
        pytest.param(international("كتاب"), "ARABIC LETTER KAF is a form of a letter", id="idn-arabic-kaf"),
        pytest.param(international("کار\u200cخانه"), "not one that IDNA 2008 makes", id="idn-idle-joiner"),
    ],
)  # fmt: skip
def test_a_host_that_is_none_or_reads_as_another(host: str, told: str) -> None:
    with pytest.raises(TextError) as refused:
        check_host(host)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        pytest.param("http://bookshop.example", "an origin is https://", id="http"),
        pytest.param("bookshop.example", "an origin is https://", id="no-scheme"),
        pytest.param("https://bookshop.example/", "an origin is https://", id="path"),
        pytest.param("https://bookshop.example:", "a port is a number", id="empty-port"),
        pytest.param("https://bookshop.example:0", "a port is a number", id="port-0"),
        pytest.param("https://bookshop.example:0443", "a port is a number", id="leading-zero"),
        pytest.param("https://bookshop.example:65536", "a port is a number", id="port-too-large"),
        pytest.param("https://bookshop.example:1234567890123", "a port is a number", id="port-without-end"),
        pytest.param("https://bookshop.example:۴۴۳", "a port is a number", id="persian-port"),
        pytest.param("https://bookshop.example:443/x", "a port is a number", id="path-after-port"),
        pytest.param("https://u@bookshop.example", "U+0040 COMMERCIAL AT is not written", id="user"),
        pytest.param("https://bookshop..example", "not empty", id="empty-label"),
    ],
)
def test_an_origin_that_is_none(origin: str, told: str) -> None:
    with pytest.raises(TextError) as refused:
        check_origin(origin)
    assert told in str(refused.value)
