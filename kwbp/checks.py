"""Every check of the protocol: its id and what it asks, in the order in which the receiver runs them.

A refusal names its check by this id (`ProtocolError.check`, `clause` of the Error message), so that a log line, a test
and the protocol description mean the same thing. The letters: K common prefix of every message, I merchant on
InvoiceReq (row 9), W wallet on Invoice (row 10), M merchant on PReq (row 12), G gateway on AuthReq (row 13), A merchant
on AuthRes (row 14), B gateway on AuthAck (row 15), R wallet on Receipt (row 16), Q whoever is asked by InqReq and U
whoever reads InqRes (row 18), E anyone on Error (row 24), S signing service on a content that it is asked to sign; and
of registration (rows 1 to 5) C registration authority on requests, D applicant on answers, F issuing bank on a request
that the registration authority passes on.

K3, I3, M2, M9, M10, Q2, G3, G8, G11 to G15, C2, C6 to C9, F6 and F7 need state or a token; they belong to the services,
which use the same ids.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

CHECKS: Final = MappingProxyType(
    {
        "K1": "size limit, strict DER, version, form of every field",
        "K2": "message type, RRPID and XID of the wrapper equal those inside",
        "K3": "RRPID is fresh: not in the replay cache",
        "K4": "CMS structure and algorithms are on the allow-list",
        "K5": "certificate path to the pinned root, role, usage, validity, revocation",
        "K6": "signature verifies",
        "K7": "signing time lies in the window and agrees with the date of the message",
        "I1": "brand is accepted",
        "I2": "card issuer (BIN) is accepted",
        "I3": "basket can be sold",
        "W1": "RRPID, LID-C and Chall-C echo the request",
        "W2": "SHA-256 of OrderDetails equals hod",
        "W3": "order lines add up to the signed amount and are what was asked for",
        "W4": "invoice names its signer, who may sell online and is bound to this acquirer",
        "W5": "site of the shop is named in the merchant's certificate",
        "W6": "gateway's encryption certificate: path, role, hash, gateway id, sealing suite",
        "W7": "gateway and merchant belong to the same acquirer",
        "W8": "invoice is in force: issuedAt, notAfter",
        "W9": "Brand CRL Identifier is not older than the newest seen",
        "M1": "K1 to K4",
        "M2": "XID is known, INVOICED, not expired",
        "M3": "Chall-M, Chall-C, LIDs and RRPID echo",
        "M4": "OIData is about the stored invoice: its hash, hod, amount, merchant, brand, BIN",
        "M5": "cardholder's certificate: path, role, validity, revocation; the card that asked for the invoice",
        "M6": "dual signature verifies",
        "M7": "dual signature covers this OIData, this H(PIData), this XID, merchant, amount and invoice",
        "M8": "order is sealed to the gateway that the invoice names",
        "M9": "XID moves to PAID_PENDING once",
        "M10": "AuthReq is sent",
        "G1": "K1 to K4 on AuthReq and on each object inside",
        "G2": "merchant is active, owns the terminal, and is the TLS peer",
        "G3": "same AuthReq: stored answer; other AuthReq for the XID: piPreviouslyUsed",
        "G4": "merchant's signature on AuthReq",
        "G5": "merchant's signature on the invoice, which says what AuthReq says and names this gateway",
        "G6": "cardholder's certificate and dual signature",
        "G7": "dual signature, AuthReq, invoice and envelope agree",
        "G8": "card data opens",
        "G9": "opened data are what was signed",
        "G10": "card is the one that the cardholder's certificate commits to",
        "G11": "limits and velocity",
        "G12": "order is stored as SENT",
        "G13": "request goes to the switch",
        "G14": "answer is signed and stored",
        "G15": "PIN and CVV2 are forgotten",
        "A1": "hAuthReq is the hash of the own request",
        "A2": "answer names this merchant and its certificate",
        "A3": "XID, RRPID, Chall-C and dual signature are those of the request",
        "A4": "amount is that of the request",
        "A5": "an approval carries the network's references",
        "A6": "signer is the gateway that the invoice names",
        "A7": "answer is not older than the request, and an approval is still open for acknowledgement",
        "B1": "acknowledgement is signed by the merchant of the order",
        "B2": "hAuthRes, XID and RRPID are those of the stored answer",
        "B3": "acknowledgement came before ackBy",
        "R1": "receipt is signed by the merchant of the invoice",
        "R2": "RRPID, XID and Chall-C echo",
        "R3": "hOIData is the buyer's own",
        "R4": "gateway's answer is signed by the gateway that the card data were sealed to",
        "R5": "gateway's answer is about this dual signature, XID, Chall-C, merchant and amount",
        "R6": "completionCode and particularsOK agree with the gateway's answer",
        "Q1": "asker is a party to the purchase: its merchant, or its card",
        "Q2": "XID is known here",
        "U1": "RRPID, XID, merchant, challenge and hash are those of the inquiry",
        "U2": "answer is signed by the party that was asked",
        "U3": "status agrees with what is told beside it, and no more is claimed than the gateway says",
        "E1": "error refers to a message that was sent",
        "S1": "content names the key's own certificate",
        "C1": "brand is served here, and the applicant holds a root of ours",
        "C2": "BIN is of a bank that confirms cards to this authority",
        "C3": "challenge was given out here, for this purpose, not long ago, and echoes",
        "C4": "request is signed by its applicant, and each PKCS#10 proves possession of its key",
        "C5": "one-time key is strong, and not a key to be certified",
        "C6": "key was never certified nor asked for before, one-time key never used",
        "C7": "no more requests from this address, or for this card, than allowed",
        "C8": "subject is as its class demands",
        "C9": "card's bank confirms the card",
        "D1": "RRPID and challenge echo the request",
        "D2": "answer is signed by the registration authority below the pinned root",
        "D3": "form is signed by the card's bank and in force",
        "D4": "answer is sealed to the one-time key and opens",
        "D5": "answer is about the own request",
        "D6": "certificates are for the own keys, with the right role and path",
        "D7": "common name commits to the card under the own secrets",
        "F1": "request is signed by the registration authority",
        "F2": "request of the cardholder is signed with the key to be certified",
        "F3": "card data are sealed to the bank's key in force",
        "F4": "card data open",
        "F5": "card data are in form, for this request and key",
        "F6": "no more attempts for this card than allowed",
        "F7": "card is good, and its holder proves it",
    }
)
