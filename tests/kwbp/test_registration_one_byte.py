"""One byte of a registration message changed anywhere: it is refused, or it makes the very same statement.

The second can happen where a certificate came along that the receiver knows anyway; a request in clear that nobody
signs (InitReq, RegFormReq) asks for something else then, and the answer, which repeats it, is refused by its asker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwbp.errors import ProtocolError
from kwbp.structure import encode
from pki.oids import CT_CERT_RES, CT_MER_CERT_RES
from tests.kwbp.registering import Registering

Statement = tuple[Any, ...]
Reader = Callable[[bytes], Statement]

_PARTIES = Registering()


def _messages(parties: Registering) -> dict[str, tuple[bytes, Reader]]:
    init, form = parties.ask_init(), parties.form_request()
    init_res, form_res = parties.init_response(init), parties.form_response(form)
    cert_req = parties.cert_message()
    card_sent = parties.sent(cert_req, CT_CERT_RES, parties.card_keys())
    merchant = parties.merchant_message()
    keys = dict(parties.check_merchant(merchant).keys)
    shop_sent = parties.sent(merchant, CT_MER_CERT_RES, keys)
    shop = parties.pki.merchant("M-1", key=parties.merchant_keys["signing"])
    tls = parties.pki.service("shop", key=parties.merchant_keys["tls"])
    chains = {"signing": (shop.certificate, *shop.chain), "tls": (tls.certificate, *tls.chain)}
    shop_res = parties.respond(shop_sent, certificates=chains)

    def opened(message: bytes) -> Statement:
        card = parties.open_card(message)
        return card.pan.reveal(), card.expiry.reveal(), card.pan_secret, card.commitment

    return {
        "InitRes": (
            init_res.message(parties.signed(init_res, parties.ra)),
            lambda message: (encode(parties.check_init(message, init).body),),
        ),
        "RegFormRes": (
            form_res.message(parties.signed(form_res, parties.ra)),
            lambda message: (encode(parties.check_form(message, form).form.body),),
        ),
        "CertReq": (cert_req, lambda message: (encode(parties.check_cert(message).body),)),
        "CardConfirmReq": (parties.card_message(parties.check_cert(cert_req)), opened),
        "CertRes": (
            parties.sealed(parties.respond(card_sent)),
            lambda message: (encode(parties.check_answer(message, card_sent).body),),
        ),
        "MerCertReq": (merchant, lambda message: (encode(parties.check_merchant(message).body),)),
        "MerCertRes": (
            shop_res.message(parties.signed(shop_res, parties.ra)),
            lambda message: (encode(parties.check_answer(message, shop_sent).body),),
        ),
        "GwCertReq": (
            parties.gateway_message(),
            lambda message: (encode(parties.check_gateway(message).body),),
        ),
    }


MESSAGES = _messages(_PARTIES)


@pytest.mark.parametrize("name", MESSAGES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_changed_byte(name: str, data: st.DataObject) -> None:
    message, read = MESSAGES[name]
    position = data.draw(st.integers(0, len(message) - 1))
    mask = data.draw(st.integers(1, 255))
    twin = message[:position] + bytes([message[position] ^ mask]) + message[position + 1 :]
    try:
        statement = read(twin)
    except ProtocolError:
        return
    assert statement == read(message)


@pytest.mark.parametrize("name", MESSAGES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_bytes_cut_out(name: str, data: st.DataObject) -> None:
    message, read = MESSAGES[name]
    start = data.draw(st.integers(0, len(message) - 1))
    end = data.draw(st.integers(start + 1, len(message)))
    with pytest.raises(ProtocolError):
        read(message[:start] + message[end:])


@pytest.mark.parametrize("name", ["InitReq", "RegFormReq"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_unsigned_request_that_was_changed_is_found_out_by_its_answer(name: str, data: st.DataObject) -> None:
    parties = _PARTIES
    asked: Any = parties.ask_init() if name == "InitReq" else parties.form_request()
    message = asked.message
    position = data.draw(st.integers(0, len(message) - 1))
    mask = data.draw(st.integers(1, 255))
    twin = message[:position] + bytes([message[position] ^ mask]) + message[position + 1 :]
    with pytest.raises(ProtocolError):
        if name == "InitReq":
            answer = parties.init_response(parties.receive_init(twin))
            parties.check_init(answer.message(parties.signed(answer, parties.ra)), asked)
        else:
            got = parties.receive_form(twin)
            answer = parties.form_response(type(asked)(got, twin))
            parties.check_form(answer.message(parties.signed(answer, parties.ra)), asked)
