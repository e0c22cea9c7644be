"""The form of what an officer signs to act at a gateway: one encoding, every field bounded, nothing else is read."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cps.errors import StatementError
from cps.gateway_act import LASTS, MAX_SIZE, GatewayAct, build_gateway_act, parse_gateway_act
from tests.support.der_surgery import Node, parse
from tests.support.pki_factory import NOW

ACT = GatewayAct("GW-1", "POST", "/v1/orders/00/confirmation?x=1", b"\x01" * 32, b"\x02" * 16, NOW, NOW + LASTS)
VERSION, GATEWAY, METHOD, TARGET, BODY, NONCE, DATE, EXPIRES = range(8)

moments = st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001  # made aware below
    lambda moment: moment.replace(microsecond=0, tzinfo=NOW.tzinfo)
)


def test_openssl_reads_the_fields_in_their_order() -> None:
    shown = subprocess.run(
        ["openssl", "asn1parse", "-inform", "DER"], input=build_gateway_act(ACT), capture_output=True, check=True
    ).stdout.decode()
    fields = [line.split("prim:")[1].split() for line in shown.splitlines()[1:]]
    assert fields == [
        ["INTEGER", ":01"],
        ["UTF8STRING", ":GW-1"],
        ["UTF8STRING", ":POST"],
        ["UTF8STRING", ":/v1/orders/00/confirmation?x=1"],
        ["OCTET", "STRING", "[HEX", f"DUMP]:{'01' * 32}"],
        ["OCTET", "STRING", "[HEX", f"DUMP]:{'02' * 16}"],
        ["GENERALIZEDTIME", f":{NOW:%Y%m%d%H%M%SZ}"],
        ["GENERALIZEDTIME", f":{NOW + LASTS:%Y%m%d%H%M%SZ}"],
    ]


def test_one_is_read() -> None:
    assert parse_gateway_act(build_gateway_act(ACT)) == ACT


@given(
    st.text(min_size=1, max_size=20),
    st.text(min_size=1, max_size=100),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=16, max_size=16),
    moments,
    moments,
)
def test_what_was_built_is_read(
    gateway: str, target: str, body: bytes, nonce: bytes, date: datetime, expires: datetime
) -> None:
    act = GatewayAct(gateway, "DELETE", target, body, nonce, date, expires)
    assert parse_gateway_act(build_gateway_act(act)) == act


@pytest.mark.parametrize(
    "change",
    [
        {"gateway": ""},
        {"gateway": "G" * 65},
        {"method": ""},
        {"method": "PROPFIND!"},
        {"target": ""},
        {"target": "/" * 513},
        {"body": bytes(31)},
        {"body": bytes(33)},
        {"nonce": bytes(15)},
        {"nonce": bytes(17)},
    ],
    ids=lambda change: "-".join(f"{name}-{len(value)}" for name, value in change.items()),
)
def test_a_field_out_of_its_bounds_is_not_built(change: dict[str, Any]) -> None:
    with pytest.raises(StatementError, match="longer or shorter"):
        build_gateway_act(replace(ACT, **change))


@pytest.mark.parametrize("change", [{"date": NOW.replace(tzinfo=None)}, {"expires": NOW + timedelta(microseconds=1)}])
def test_times_are_aware_and_whole_seconds(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="aware and whole seconds"):
        build_gateway_act(replace(ACT, **change))


def twin(field: int, content: bytes) -> bytes:
    tree = parse(build_gateway_act(ACT))
    tree.at(field).content = content
    return tree.encode()


def missing(field: int) -> bytes:
    tree = parse(build_gateway_act(ACT))
    del tree.children[field]
    return tree.encode()


@pytest.mark.parametrize(
    "der",
    [
        b"",
        build_gateway_act(ACT) + b"\x00",
        build_gateway_act(ACT)[:-1],
        twin(GATEWAY, b""),
        twin(GATEWAY, b"G" * 65),
        twin(GATEWAY, b"\xff"),
        twin(METHOD, b"M" * 9),
        twin(TARGET, b"/" * 513),
        twin(BODY, bytes(31)),
        twin(NONCE, bytes(17)),
        twin(DATE, b"20260321123000+0330"),
        twin(DATE, b"20261321120000Z"),
        twin(BODY, bytes(MAX_SIZE)),
        *map(missing, range(8)),
    ],
)
def test_anything_else_is_not_read(der: bytes) -> None:
    with pytest.raises(StatementError):
        parse_gateway_act(der)


def test_a_field_more_is_not_read() -> None:
    tree = parse(build_gateway_act(ACT))
    tree.children.append(Node(0x05))
    with pytest.raises(StatementError, match="GatewayActTBS"):
        parse_gateway_act(tree.encode())


def test_another_version_is_not_read() -> None:
    with pytest.raises(StatementError, match="version 2, not 1"):
        parse_gateway_act(twin(VERSION, b"\x02"))
