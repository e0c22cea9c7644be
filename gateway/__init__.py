"""The payment gateway: collects orders that a buyer and a merchant have signed, through an ISO 8583 switch.

    authorization    one AuthReq from its bytes to its signed answer, G1 to G15
    acknowledgement  AuthAck, which stops the clock
    reversal         store-and-forward: what nobody acknowledged goes back
    link             the line to the switch; translation: which data element says what
    store            the order book, on schema, states, order, trace_numbers; merchants: who is collected for
    signing          answers; refusals: Errors and the journal of exact causes
    gateway          the parts put together; app: HTTP; service: a process; ports: what is needed of others

It holds no key: card data is opened, PINs are re-encrypted, MACs made and answers signed in the token, by the HSM
service (`gateway_keys.client`, `hsm_service.client`).
"""

from __future__ import annotations
