"""Every object identifier of KWBP, in one table.

KWBP has no registered arc yet, so it lives under ITU-T X.667's `2.25`. A full 128-bit UUID there cannot be read by
everybody: libtasn1, under GnuTLS, keeps an arc in 63 bits, and the decoder under pkilint takes four octets. Therefore
the arc is a random 28-bit number. Every tool we are judged by reads it.
"""

from __future__ import annotations

from typing import Final

from cryptography.x509 import ObjectIdentifier

_ARC: Final = "2.25.189821692"


def _kwbp(suffix: str) -> ObjectIdentifier:
    return ObjectIdentifier(f"{_ARC}.{suffix}")


ID_KWBP: Final = ObjectIdentifier(_ARC)

# .1 content types of signed messages
CT_INVOICE: Final = _kwbp("1.1")
CT_DUAL_SIGNATURE: Final = _kwbp("1.2")
CT_AUTH_REQ: Final = _kwbp("1.3")
CT_AUTH_RES: Final = _kwbp("1.4")
CT_AUTH_ACK: Final = _kwbp("1.5")
CT_RECEIPT: Final = _kwbp("1.6")
CT_INVOICE_REQ: Final = _kwbp("1.7")
CT_ERROR: Final = _kwbp("1.8")
CT_CARD_INIT_RES: Final = _kwbp("1.9")
CT_REG_FORM_RES: Final = _kwbp("1.10")
CT_CERT_REQ: Final = _kwbp("1.11")
CT_CERT_RES: Final = _kwbp("1.12")
CT_MER_INIT_RES: Final = _kwbp("1.13")
CT_MER_CERT_REQ: Final = _kwbp("1.14")
CT_MER_CERT_RES: Final = _kwbp("1.15")
CT_GW_CERT_REQ: Final = _kwbp("1.16")
CT_GW_CERT_RES: Final = _kwbp("1.17")
CT_ISSUER_FORM: Final = _kwbp("1.18")
CT_CARD_CONFIRM_REQ: Final = _kwbp("1.19")
CT_DECISION: Final = _kwbp("1.20")
CT_KEY_ATTESTATION: Final = _kwbp("1.21")
CT_CARD_CONFIRMATION: Final = _kwbp("1.22")
CT_REVOCATION: Final = _kwbp("1.23")
CT_KEY_APPROVAL: Final = _kwbp("1.24")
CT_KEY_BACKUP: Final = _kwbp("1.25")
CT_KEY_DENIAL: Final = _kwbp("1.26")
CT_CEREMONY_SEAL: Final = _kwbp("1.27")
CT_BCI: Final = _kwbp("1.28")
CT_SELF_AUDIT: Final = _kwbp("1.29")
CT_NOTICE: Final = _kwbp("1.30")
CT_ACCEPTANCE: Final = _kwbp("1.31")
CT_REKEY: Final = _kwbp("1.32")
CT_REVIEW: Final = _kwbp("1.33")
CT_PACK_PUBLICATION: Final = _kwbp("1.36")
CT_CHECK_ANSWER: Final = _kwbp("1.35")
CT_GATEWAY_ACT: Final = _kwbp("1.34")
CT_INQ_REQ: Final = _kwbp("1.37")
CT_INQ_RES: Final = _kwbp("1.38")
CT_P_CERT_REQ: Final = _kwbp("1.60")
CT_P_CERT_RES: Final = _kwbp("1.61")
CT_OTP_REQ: Final = _kwbp("1.62")
CT_OTP_RES: Final = _kwbp("1.63")
CT_RECEIPT_ACK: Final = _kwbp("1.64")
CT_CERT_INQ_REQ: Final = _kwbp("1.65")
CT_REV_REQ: Final = _kwbp("1.66")
CT_RENEW_REQ: Final = _kwbp("1.67")
CT_CERT_INQ_RES: Final = _kwbp("1.68")
CT_RENEW_RES: Final = _kwbp("1.69")
CT_CAP_REQ: Final = _kwbp("1.46")
CT_CAP_RES: Final = _kwbp("1.47")
CT_CAP_REV_REQ: Final = _kwbp("1.48")
CT_CAP_REV_RES: Final = _kwbp("1.49")
CT_AUTH_REV_REQ: Final = _kwbp("1.50")
CT_AUTH_REV_RES: Final = _kwbp("1.51")
CT_CRED_REQ: Final = _kwbp("1.52")
CT_CRED_RES: Final = _kwbp("1.53")
CT_CRED_REV_REQ: Final = _kwbp("1.54")
CT_CRED_REV_RES: Final = _kwbp("1.55")
CT_BATCH_ADMIN_REQ: Final = _kwbp("1.56")
CT_BATCH_ADMIN_RES: Final = _kwbp("1.57")
CT_SETTLE_ADVICE: Final = _kwbp("1.58")
# message types of the outer wrapper that are not themselves a signed content
MT_PREQ: Final = _kwbp("1.40")
MT_INVOICE: Final = _kwbp("1.41")
MT_CARD_INIT_REQ: Final = _kwbp("1.42")
MT_REG_FORM_REQ: Final = _kwbp("1.43")
MT_MER_INIT_REQ: Final = _kwbp("1.44")
MT_CERT_RES: Final = _kwbp("1.45")
MT_CONTRACT: Final = _kwbp("1.70")

# .2 signed attributes of our own
AA_DUAL_LINK: Final = _kwbp("2.1")

# .3 certificate policies, one a role
POLICY_CARDHOLDER: Final = _kwbp("3.1")
POLICY_MERCHANT_ONLINE: Final = _kwbp("3.2")
POLICY_GATEWAY: Final = _kwbp("3.3")
POLICY_OFFICER: Final = _kwbp("3.4")
POLICY_SERVICE: Final = _kwbp("3.5")
POLICY_OCSP: Final = _kwbp("3.6")
POLICY_TIMESTAMP: Final = _kwbp("3.7")  # also the policy of the time-stamps themselves

# .4 certificate extensions, never critical (see pki.extensions)
EXT_ACCOUNT_BINDING: Final = _kwbp("4.1")
EXT_GATEWAY_DATA: Final = _kwbp("4.2")
EXT_OFFICER_DATA: Final = _kwbp("4.3")
EXT_IDENTITY_CHECKED: Final = _kwbp("4.4")

# SET's own extensions (SET Book 2), kept because evidence readers know them
SET_CERTIFICATE_TYPE: Final = ObjectIdentifier("2.23.42.7.1")
SET_MERCHANT_DATA: Final = ObjectIdentifier("2.23.42.7.2")

# The next root's key, named by the root in force (RFC 8649)
EXT_HASHED_ROOT_KEY: Final = ObjectIdentifier("1.3.6.1.4.1.51483.2.1")

# X.509
POLICY_MAPPINGS: Final = ObjectIdentifier("2.5.29.33")

# CMS and PKIX
DATA: Final = ObjectIdentifier("1.2.840.113549.1.7.1")
SIGNED_DATA: Final = ObjectIdentifier("1.2.840.113549.1.7.2")
AUTH_ENVELOPED_DATA: Final = ObjectIdentifier("1.2.840.113549.1.9.16.1.23")
AA_CONTENT_TYPE: Final = ObjectIdentifier("1.2.840.113549.1.9.3")
AA_MESSAGE_DIGEST: Final = ObjectIdentifier("1.2.840.113549.1.9.4")
AA_SIGNING_TIME: Final = ObjectIdentifier("1.2.840.113549.1.9.5")
AA_SIGNING_CERTIFICATE_V2: Final = ObjectIdentifier("1.2.840.113549.1.9.16.2.47")
CT_TST_INFO: Final = ObjectIdentifier("1.2.840.113549.1.9.16.1.4")
AA_TIME_STAMP_TOKEN: Final = ObjectIdentifier("1.2.840.113549.1.9.16.2.14")
SHA256: Final = ObjectIdentifier("2.16.840.1.101.3.4.2.1")
RSASSA_PSS: Final = ObjectIdentifier("1.2.840.113549.1.1.10")
ECDSA_WITH_SHA256: Final = ObjectIdentifier("1.2.840.10045.4.3.2")
RSAES_OAEP: Final = ObjectIdentifier("1.2.840.113549.1.1.7")
AES_256_GCM: Final = ObjectIdentifier("2.16.840.1.101.3.4.1.46")
SMIME_CAPABILITIES: Final = ObjectIdentifier("1.2.840.113549.1.9.15")

NAMES: Final[dict[ObjectIdentifier, str]] = {
    ID_KWBP: "id-kwbp",
    CT_INVOICE: "id-kwbp-ct-invoice",
    CT_DUAL_SIGNATURE: "id-kwbp-ct-dualSig",
    CT_AUTH_REQ: "id-kwbp-ct-authReq",
    CT_AUTH_RES: "id-kwbp-ct-authRes",
    CT_AUTH_ACK: "id-kwbp-ct-authAck",
    CT_RECEIPT: "id-kwbp-ct-receipt",
    CT_INQ_REQ: "id-kwbp-ct-inqReq",
    CT_INQ_RES: "id-kwbp-ct-inqRes",
    CT_CAP_REQ: "id-kwbp-ct-capReq",
    CT_CAP_RES: "id-kwbp-ct-capRes",
    CT_CAP_REV_REQ: "id-kwbp-ct-capRevReq",
    CT_CAP_REV_RES: "id-kwbp-ct-capRevRes",
    CT_AUTH_REV_REQ: "id-kwbp-ct-authRevReq",
    CT_AUTH_REV_RES: "id-kwbp-ct-authRevRes",
    CT_CRED_REQ: "id-kwbp-ct-credReq",
    CT_CRED_RES: "id-kwbp-ct-credRes",
    CT_CRED_REV_REQ: "id-kwbp-ct-credRevReq",
    CT_CRED_REV_RES: "id-kwbp-ct-credRevRes",
    CT_BATCH_ADMIN_REQ: "id-kwbp-ct-batchAdminReq",
    CT_BATCH_ADMIN_RES: "id-kwbp-ct-batchAdminRes",
    CT_SETTLE_ADVICE: "id-kwbp-ct-settleAdvice",
    CT_INVOICE_REQ: "id-kwbp-ct-invoiceReq",
    CT_ERROR: "id-kwbp-ct-error",
    CT_CARD_INIT_RES: "id-kwbp-ct-cardCInitRes",
    CT_REG_FORM_RES: "id-kwbp-ct-regFormRes",
    CT_CERT_REQ: "id-kwbp-ct-certReq",
    CT_CERT_RES: "id-kwbp-ct-certRes",
    CT_MER_INIT_RES: "id-kwbp-ct-merInitRes",
    CT_MER_CERT_REQ: "id-kwbp-ct-merCertReq",
    CT_MER_CERT_RES: "id-kwbp-ct-merCertRes",
    CT_GW_CERT_REQ: "id-kwbp-ct-gwCertReq",
    CT_GW_CERT_RES: "id-kwbp-ct-gwCertRes",
    CT_ISSUER_FORM: "id-kwbp-ct-issuerForm",
    CT_CARD_CONFIRM_REQ: "id-kwbp-ct-cardConfirmReq",
    CT_DECISION: "id-kwbp-ct-decision",
    CT_KEY_ATTESTATION: "id-kwbp-ct-keyAttestation",
    CT_CARD_CONFIRMATION: "id-kwbp-ct-cardConfirmation",
    CT_REVOCATION: "id-kwbp-ct-revocation",
    CT_KEY_APPROVAL: "id-kwbp-ct-keyApproval",
    CT_KEY_BACKUP: "id-kwbp-ct-keyBackup",
    CT_CEREMONY_SEAL: "id-kwbp-ct-ceremonySeal",
    CT_BCI: "id-kwbp-ct-bci",
    CT_SELF_AUDIT: "id-kwbp-ct-selfAudit",
    CT_NOTICE: "id-kwbp-ct-notice",
    CT_ACCEPTANCE: "id-kwbp-ct-acceptance",
    CT_REKEY: "id-kwbp-ct-rekey",
    CT_REVIEW: "id-kwbp-ct-review",
    CT_PACK_PUBLICATION: "id-kwbp-ct-packPublication",
    CT_GATEWAY_ACT: "id-kwbp-ct-gatewayAct",
    CT_KEY_DENIAL: "id-kwbp-ct-keyDenial",
    CT_CHECK_ANSWER: "id-kwbp-ct-checkAnswer",
    CT_P_CERT_REQ: "id-kwbp-ct-pCertReq",
    CT_P_CERT_RES: "id-kwbp-ct-pCertRes",
    CT_OTP_REQ: "id-kwbp-ct-otpReq",
    CT_OTP_RES: "id-kwbp-ct-otpRes",
    CT_RECEIPT_ACK: "id-kwbp-ct-receiptAck",
    CT_CERT_INQ_REQ: "id-kwbp-ct-certInqReq",
    CT_REV_REQ: "id-kwbp-ct-revReq",
    CT_RENEW_REQ: "id-kwbp-ct-renewReq",
    CT_CERT_INQ_RES: "id-kwbp-ct-certInqRes",
    CT_RENEW_RES: "id-kwbp-ct-renewRes",
    AA_DUAL_LINK: "id-kwbp-aa-dualLink",
    MT_PREQ: "id-kwbp-mt-pReq",
    MT_INVOICE: "id-kwbp-mt-invoice",
    MT_CARD_INIT_REQ: "id-kwbp-mt-cardCInitReq",
    MT_REG_FORM_REQ: "id-kwbp-mt-regFormReq",
    MT_MER_INIT_REQ: "id-kwbp-mt-merInitReq",
    MT_CERT_RES: "id-kwbp-mt-certRes",
    MT_CONTRACT: "id-kwbp-mt-contract",
    POLICY_CARDHOLDER: "id-kwbp-cp-cardholder",
    POLICY_MERCHANT_ONLINE: "id-kwbp-cp-merchantOnline",
    POLICY_GATEWAY: "id-kwbp-cp-gateway",
    POLICY_OFFICER: "id-kwbp-cp-officer",
    POLICY_SERVICE: "id-kwbp-cp-service",
    POLICY_OCSP: "id-kwbp-cp-ocsp",
    POLICY_TIMESTAMP: "id-kwbp-cp-timeStamp",
    EXT_ACCOUNT_BINDING: "id-kwbp-ce-accountBinding",
    EXT_GATEWAY_DATA: "id-kwbp-ce-gatewayData",
    EXT_OFFICER_DATA: "id-kwbp-ce-officerData",
    EXT_IDENTITY_CHECKED: "id-kwbp-ce-identityChecked",
    SET_CERTIFICATE_TYPE: "set-certificateType",
    SET_MERCHANT_DATA: "set-merchantData",
    EXT_HASHED_ROOT_KEY: "id-ce-hashOfRootKey",
}
