"""The ids of all rules that code enforces.

A rule has one id, and the id is found in four places: here, in the policy pack (which gives its CPS section and text),
in the test that breaks it, and in the refusal that a person reads.
"""

from __future__ import annotations

from enum import StrEnum


class Rule(StrEnum):
    """Rule ids; `Pack.clause` gives the CPS section of each.

    The RA alone can see `APP-DUPLICATE` and the `ID-` rules, which compare a case with registers; who would issue a
    certificate alone, the CA and the HSM service, `CERT-ISSUER` (`cps.entitlement`). The others are judged by
    `cps.decide`.
    """

    # the pack
    PACK_PIN = "PACK-PIN"
    PACK_EFFECTIVE = "PACK-EFFECTIVE"
    PUB_STATEMENT = "PUB-STATEMENT"
    PUB_ROLE = "PUB-ROLE"
    PUB_STAMP = "PUB-STAMP"
    PUB_ORDER = "PUB-ORDER"
    PUB_EFFECTIVE = "PUB-EFFECTIVE"
    PUB_DOCUMENT = "PUB-DOCUMENT"
    # the application
    APP_CSR = "APP-CSR"
    APP_POP = "APP-POP"
    APP_REQUEST = "APP-REQUEST"
    APP_SIGNAL = "APP-SIGNAL"
    APP_DUPLICATE = "APP-DUPLICATE"
    ID_IBAN = "ID-IBAN"
    ID_PERSON = "ID-PERSON"
    ID_ACQUIRER = "ID-ACQUIRER"
    ID_COMPANY = "ID-COMPANY"
    NAME_FORM = "NAME-FORM"
    NAME_FORBIDDEN = "NAME-FORBIDDEN"
    # roles
    GRANT_SCOPE = "GRANT-SCOPE"
    GRANT_TIME = "GRANT-TIME"
    # keys
    KEY_SIZE = "KEY-SIZE"
    KEY_QUALITY = "KEY-QUALITY"
    KEY_REUSED = "KEY-REUSED"
    KEY_DENYLISTED = "KEY-DENYLISTED"
    KEY_TOKEN = "KEY-TOKEN"  # noqa: S105  # a rule id
    # re-key
    REKEY_CLASS = "REKEY-CLASS"
    REKEY_PROOF = "REKEY-PROOF"
    REKEY_SUBJECT = "REKEY-SUBJECT"
    REKEY_AGE = "REKEY-AGE"
    # certificates
    CERT_ISSUER = "CERT-ISSUER"
    # evidence
    EVID_MISSING = "EVID-MISSING"
    EVID_AGE = "EVID-AGE"
    EVID_INVALID = "EVID-INVALID"
    EVID_CARD = "EVID-CARD"
    EVID_FILE = "EVID-FILE"
    # identity checks
    CHECK_CONTRADICTED = "CHECK-CONTRADICTED"
    CHECK_SILENT = "CHECK-SILENT"
    # decisions
    DEC_FORM = "DEC-FORM"
    DEC_CREDENTIAL = "DEC-CREDENTIAL"
    DEC_ROLE = "DEC-ROLE"
    DEC_STALE = "DEC-STALE"
    DEC_EVIDENCE = "DEC-EVIDENCE"
    DEC_STEP = "DEC-STEP"
    DEC_ORDER = "DEC-ORDER"
    DEC_TIME = "DEC-TIME"
    DEC_EXPIRED = "DEC-EXPIRED"
    DEC_CODE = "DEC-CODE"
    DEC_REJECTED = "DEC-REJECTED"
    # separation of duties
    SOD_AUTHOR = "SOD-AUTHOR"
    SOD_OWN = "SOD-OWN"
    SOD_STEP = "SOD-STEP"
    SOD_ORGANISATION = "SOD-ORGANISATION"
    SOD_PERSON = "SOD-PERSON"
    SOD_EXCLUSIVE = "SOD-EXCLUSIVE"
    # revocation
    REV_REASON = "REV-REASON"
    REV_STATEMENT = "REV-STATEMENT"
    REV_ROLE = "REV-ROLE"
    REV_TARGET = "REV-TARGET"
    REV_STATE = "REV-STATE"
    REV_REVIEW = "REV-REVIEW"
    # the denylist
    DENY_STATEMENT = "DENY-STATEMENT"
    DENY_ROLE = "DENY-ROLE"
