"""The MAC of the network's answer and the signature of the gateway's own, in one request: never the second alone."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from gateway_keys import wire, zone_keys
from gateway_keys.answers import sign_answer
from gateway_keys.client import GatewayKeysClient
from gateway_keys.plugin import GatewayKeys
from gateway_keys.routes import CALLER
from gateway_keys.zone_exchange import index_of
from gateway_keys.zones import HostZone
from hsm_service.app import create_app
from hsm_service.steps import Call, Record
from hsm_service.vault import Vault
from kwbp.codes import AuthCode
from kwbp.common import read_signed, verify_signature
from kwbp.fields import to_time
from kwbp.messages import AuthResTBS
from kwbp.money import Money
from kwbp.structure import encode
from kwbp.validators import VALIDATORS
from pki.der import sha256
from pki.oids import CT_AUTH_RES
from runtime.client import TlsFiles, async_http_client
from runtime.problems import Problem
from runtime.server import start
from runtime.settings import Home
from shetab.mac import zone_mac
from shetab.zone import SWITCH_ZONE, Zone
from shetab.zone_keys import combine
from tests.faults.faulty_module import wait_until
from tests.support.pki_factory import NOW, PkiFactory
from tests.support.signing_site import error
from tests.support.softhsm import provisioned_home
from tests.support.tls import tls_issuer

KEY: Final = "gateway-signing"
HOST: Final = "melli"
DATA: Final = b"0210 and what follows"
AGREED: Final = {SWITCH_ZONE: Zone(), HOST: Zone.agreed(4, "x9.19", pin_key="aes-256")}


def answer(**changes: Any) -> bytes:
    """AuthResTBS (DER) that declines."""
    fields: dict[str, Any] = {
        "version": 2,
        "rrpid": b"\x01" * 20,
        "xid": b"\x02" * 20,
        "chall_c": b"\x03" * 32,
        "merchant_id": "M-1",
        "mer_cert_hash": b"\x04" * 32,
        "h_auth_req": b"\x05" * 32,
        "h_dual_sig": b"\x06" * 32,
        "amount": Money.rial(10_000),
        "auth_code": AuthCode.DECLINED,
        **dict.fromkeys(("rc", "stan", "rrn", "approval", "masked_pan", "settle_date", "cap_token")),
        "gw_id": "GW-1",
        "acquirer_id": "603799",
        "date": to_time(NOW),
        "ack_by": to_time(NOW),
    }
    return encode(AuthResTBS(**{**fields, **changes}))


class _PublicOnly:
    def __init__(self, spki: bytes) -> None:
        self._public = load_der_public_key(spki)

    def public_key(self) -> Any:
        return self._public


@dataclass
class Served:
    url: str
    vault: Vault
    home: Home
    plugin: GatewayKeys
    tls: Callable[..., TlsFiles]

    def mac(self, zone: str = SWITCH_ZONE, data: bytes = DATA) -> bytes:
        which = zone_keys.ZoneKey("zone-mac", zone)
        parts = zone_keys.read_components(self.home.secrets, which, AGREED[zone])
        return zone_mac(AGREED[zone].mac_algorithm, combine([part.reveal() for part in parts]), data)

    def ask(self, mac: bytes, *, caller: str = CALLER, **changes: Any) -> bytes | None:
        """What the client says, over mutual TLS as `caller`."""
        asked: dict[str, Any] = {"key": KEY, "content": answer(), **changes}

        async def run() -> bytes | None:
            files = self.tls(caller.replace(":", "-"), uri=f"urn:kwbp:{caller}")
            async with async_http_client(files, self.url) as transport:
                return await GatewayKeysClient(transport).sign_answer(DATA, mac, **asked)

        return asyncio.run(run())

    def signatures(self) -> int:
        return self.vault.describe_key(CALLER, KEY).uses

    def journal(self) -> list[dict[str, Any]]:
        lines = (self.home.audit / "hsm.jsonl").read_text().splitlines()
        return [json.loads(line)["entry"] for line in lines]

    def told(self, since: int) -> list[tuple[Any, ...]]:
        """Event, operation of intents and refusals, and result or reason of each entry after `since`."""
        return [
            (each["event"], each.get("operation"), each.get("result") or each.get("reason"))
            for each in self.journal()[since:]
        ]


CHECKED: Final = [("intent", "verify-mac", None), ("outcome", None, "done")]
SIGNED: Final = [("intent", "cms", None), ("outcome", None, "done")]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = provisioned_home(tmp_path_factory.mktemp("answers"))
    pki, tls = PkiFactory(), tls_issuer(tmp_path_factory.mktemp("tls"))
    judges = {oid.dotted_string: judge for oid, judge in VALIDATORS.items()}
    with ExitStack() as stack:
        vault = stack.enter_context(Vault.open(home, clock=lambda: NOW, content_types=judges))
        wait_until(lambda: vault.ready)
        ceremony = vault.as_caller("ceremony")
        for name, agreed in AGREED.items():
            zone_keys.make_components(home.secrets, agreed, of=name)
            zone_keys.load(vault, home.secrets, agreed, of=name)
        ceremony.generate_key("gateway-vault", "gateway-vault")
        key: Any = _PublicOnly(ceremony.generate_key(KEY, KEY).public_key)
        certified = pki.gateway_signing(key=key)
        chain = [each.public_bytes(Encoding.DER) for each in certified.chain]
        ceremony.attach_certificate(KEY, [certified.der, *chain])
        others = {HOST: HostZone(AGREED[HOST], timedelta(seconds=10))}
        plugin = GatewayKeys.of(home, others=others, clock=lambda: NOW)
        url = stack.enter_context(start(create_app(vault, plugins=[plugin]), tls=tls("hsm")))
        yield Served(url, vault, home, plugin, tls)


def test_an_answer_is_signed_after_the_mac_was_found_right_and_both_are_on_record(served: Served) -> None:
    before, signatures = len(served.journal()), served.signatures()
    signed = served.ask(served.mac())
    assert signed is not None
    received = read_signed(AuthResTBS, CT_AUTH_RES, signed)
    verify_signature(received, check="G14")
    assert encode(received.body) == answer()
    assert served.told(before) == CHECKED + SIGNED
    assert served.signatures() == signatures + 1
    assert served.journal()[before + 2]["input_sha256"] == sha256(answer()).hex()


@pytest.mark.parametrize("mac", [bytes(8), b"", b"\x00" * 16], ids=["wrong", "none", "long"])
def test_under_a_wrong_mac_nothing_is_signed_and_the_refusal_is_on_record(served: Served, mac: bytes) -> None:
    before, signatures = len(served.journal()), served.signatures()
    assert served.ask(mac) is None
    assert served.told(before) == [*CHECKED, ("refused", "cms", "wrong-mac")]
    refusal = served.journal()[-1]
    assert (refusal["caller"], refusal["keys"]) == (CALLER, [KEY])
    assert refusal["input_sha256"] == sha256(answer()).hex()
    assert served.signatures() == signatures


def test_a_mac_under_the_key_of_another_zone_is_wrong(served: Served) -> None:
    signatures = served.signatures()
    assert served.ask(served.mac(HOST)) is None
    assert served.ask(served.mac(), zone=HOST) is None
    assert served.signatures() == signatures
    assert served.ask(served.mac(HOST), zone=HOST) is not None


def test_a_mac_of_other_bytes_is_wrong(served: Served) -> None:
    signatures = served.signatures()
    assert served.ask(served.mac(data=DATA + b"0")) is None
    assert served.signatures() == signatures


def test_nothing_is_signed_for_a_zone_that_there_is_none_of(served: Served) -> None:
    before, signatures = len(served.journal()), served.signatures()
    with pytest.raises(Problem) as refused:
        served.ask(served.mac(), zone="saman")
    assert refused.value.type == "zone-unknown"
    assert served.told(before) == [("refused", "verify-mac", "zone-unknown")]
    assert served.signatures() == signatures


@pytest.mark.parametrize("caller", ["service:ca", "merchant:M-1", "service:operator", "service:hsm"])
def test_nobody_but_the_gateway_is_served(served: Served, caller: str) -> None:
    before, signatures = len(served.journal()), served.signatures()
    with pytest.raises(Problem) as refused:
        served.ask(served.mac(), caller=caller)
    assert (refused.value.status, refused.value.type) == (403, "caller-not-allowed")
    assert served.told(before) == [("refused", "sign-answer", "caller-not-allowed")]
    request = wire.SignAnswerRequest(data=DATA, mac=served.mac(), key=KEY, content=answer())
    with pytest.raises(Problem) as refused:  # nor by the keys themselves, were the route open to everybody
        served.vault.run(sign_answer(served.plugin.zones, served.vault, caller, request))
    assert refused.value.type == "caller-not-allowed"
    assert served.signatures() == signatures


@pytest.mark.parametrize(
    ("key", "reason"),
    [("gateway-vault", "key-misused"), ("zone-mac", "key-misused"), ("nobody", "key-not-found")],
)
def test_the_key_of_the_signature_is_judged_by_itself(served: Served, key: str, reason: str) -> None:
    before = len(served.journal())
    with pytest.raises(Problem) as refused:
        served.ask(served.mac(), key=key)
    assert served.told(before) == [*CHECKED, ("refused", "cms", refused.value.type)]
    assert refused.value.type == reason


@pytest.mark.parametrize("content", [error(), b"", answer(gw_id="GW-2")], ids=["error", "nothing", "another gateway"])
def test_nothing_but_an_answer_of_this_gateway_is_signed(served: Served, content: bytes) -> None:
    signatures = served.signatures()
    with pytest.raises(Problem) as refused:
        served.ask(served.mac(), content=content)
    assert refused.value.status == 422
    assert served.signatures() == signatures


def test_each_repeat_is_checked_and_recorded_anew(served: Served) -> None:
    before = len(served.journal())
    assert served.ask(served.mac()) is not None
    assert served.ask(bytes(8)) is None
    assert served.ask(served.mac()) is not None
    assert served.told(before) == [
        *CHECKED,
        *SIGNED,
        *CHECKED,
        ("refused", "cms", "wrong-mac"),
        *CHECKED,
        *SIGNED,
    ]


def test_who_dies_between_the_two_has_signed_nothing_and_claimed_nothing(served: Served) -> None:
    before, signatures = len(served.journal()), served.signatures()
    request = wire.SignAnswerRequest(data=DATA, mac=served.mac(), key=KEY, content=answer())
    steps = sign_answer(served.plugin.zones, served.vault, CALLER, request)
    step, outcomes = next(steps), 0
    while not outcomes:
        done: Any = None
        if isinstance(step, Record):
            done = served.vault.journal.append(step.entry)
            step.numbered(done)
            outcomes += step.entry["event"] == "outcome"
        elif isinstance(step, Call):
            done = getattr(step.token, step.method)(*step.arguments)
        if not outcomes:
            step = steps.send(done)
    steps.close()
    assert served.told(before) == CHECKED
    assert served.signatures() == signatures
    assert served.ask(served.mac()) is not None


def test_a_mac_under_the_key_that_was_just_replaced_is_right_and_both_looks_are_on_record(served: Served) -> None:
    agreed, zone = AGREED[HOST], served.plugin.zones.find(HOST)
    master = zone_keys.read_components(served.home.secrets, zone_keys.ZoneKey("zone-master", HOST), agreed)
    value, index = agreed.new_key("zone-mac", os.urandom), index_of(served.vault.key(zone.mac).row.version + 1)
    wrapped = agreed.wrap("zone-mac", combine([part.reveal() for part in master]), value)
    check = bytes.fromhex(agreed.kcv("zone-mac", value))
    received = wire.ReceiveZoneKeyRequest(key="zone-mac", index=index, wrapped=wrapped, check_value=check, zone=HOST)
    served.plugin.zones.receive(served.vault, CALLER, received)
    before, signatures = len(served.journal()), served.signatures()
    assert served.ask(zone_mac(agreed.mac_algorithm, value, DATA), zone=HOST) is not None
    assert served.told(before) == CHECKED + SIGNED
    before = len(served.journal())
    assert served.ask(served.mac(HOST), zone=HOST) is not None  # under the old one
    assert served.told(before) == CHECKED + CHECKED + SIGNED
    before = len(served.journal())
    assert served.ask(bytes(8), zone=HOST) is None
    assert served.told(before) == [*CHECKED, *CHECKED, ("refused", "cms", "wrong-mac")]
    assert served.signatures() == signatures + 2
