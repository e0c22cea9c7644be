"""Threat 3: parts of two honest purchases, mixed in every way. Only the two honest mixes pass.

Both purchases are by the same card, at the same shop, for the same goods and amount, through the same gateway: nothing
but the bindings of the protocol tells their parts apart.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from kwbp.errors import ProtocolError
from kwbp.messages import PReq
from kwbp.structure import decode, encode
from kwbp.wrapper import unwrap, wrap
from pki.oids import CT_AUTH_REQ, MT_PREQ
from tests.kwbp.forge import changed, signed
from tests.kwbp.world import Purchase, World


def test_merchant_takes_no_mixture(world: World, purchase: Purchase, other: Purchase) -> None:
    pair = (purchase, other)
    preqs = [decode(PReq, unwrap(p.preq_message, expected=[MT_PREQ]).body) for p in pair]
    accepted = []
    for mix in product((0, 1), repeat=5):
        oi, dual, h_pi, envelope, stored = mix
        preq = PReq(
            oi_data=preqs[oi].oi_data,
            dual_sig=preqs[dual].dual_sig,
            h_pi_data=preqs[h_pi].h_pi_data,
            pi_envelope=preqs[envelope].pi_envelope,
        )
        message = wrap(MT_PREQ, encode(preq), rrpid=preq.oi_data.rrpid, xid=preq.oi_data.xid)
        try:
            world.check_purchase(message, pair[stored].issued)
        except ProtocolError:
            continue
        accepted.append(mix)
    assert accepted == [(0,) * 5, (1,) * 5]


def test_gateway_takes_no_mixture(world: World, purchase: Purchase, other: Purchase) -> None:
    """The merchant itself is the attacker here: each mixture is signed anew with its key."""
    pair = (purchase.auth_req.body, other.auth_req.body)
    parts = ("xid", "h_oi_data", "hod", "invoice", "dual_sig", "pi_envelope")
    accepted = []
    for mix in product((0, 1), repeat=len(parts)):
        changes: dict[str, Any] = {part: getattr(pair[n], part) for part, n in zip(parts, mix, strict=True)}
        body = changed(pair[0], changes)
        message = wrap(CT_AUTH_REQ, signed(world.shop, CT_AUTH_REQ, body), rrpid=body.rrpid, xid=body.xid)
        try:
            world.check_auth_req(message)
        except ProtocolError:
            continue
        accepted.append(mix)
    assert accepted == [(0,) * len(parts), (1,) * len(parts)]


def test_opened_data_fit_their_own_order_only(world: World, purchase: Purchase, other: Purchase) -> None:
    pair = (purchase, other)
    accepted = []
    for opened, order in product((0, 1), repeat=2):
        try:
            world.check_opened(pair[opened].plaintext, pair[order].verified)
        except ProtocolError:
            continue
        accepted.append((opened, order))
    assert accepted == [(0, 0), (1, 1)]


def test_answers_fit_their_own_purchase_only(world: World, purchase: Purchase, other: Purchase) -> None:
    pair = (purchase, other)
    accepted = []
    for answer, sent in product((0, 1), repeat=2):
        message = pair[answer].auth_res.message(pair[answer].auth_res_signed)
        try:
            world.check_answer(message, pair[sent].sent)
        except ProtocolError:
            continue
        accepted.append((answer, sent))
    assert accepted == [(0, 0), (1, 1)]


def test_receipts_fit_their_own_purchase_only(world: World, purchase: Purchase, other: Purchase) -> None:
    pair = (purchase, other)
    accepted = []
    for outer, inner, record in product((0, 1), repeat=3):
        body = changed(pair[outer].receipt.body, {"auth_res": pair[inner].auth_res_signed})
        message = pair[outer].receipt.message(signed(world.shop, pair[outer].receipt.content_type, body))
        try:
            world.check_receipt(message, pair[record].record)
        except ProtocolError:
            continue
        accepted.append((outer, inner, record))
    assert accepted == [(0, 0, 0), (1, 1, 1)]
