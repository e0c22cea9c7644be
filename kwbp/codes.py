"""Numbers that travel in KWBP messages: why a message was refused, how an authorisation ended, how a purchase ended.

1 to 22 of `ErrorCode`, all of `AuthCode` and all of `CompletionCode` are SET's (SET Book 3); 23 to 37 are KWBP's own.
On the wire each is an INTEGER out of a closed value set: a number that is not in the table does not decode. (SET wrote
ENUMERATED; the DER encoder at hand has no such type, and a closed INTEGER carries the same information.)
"""

from __future__ import annotations

from enum import IntEnum, unique

from cryptography.hazmat import asn1


@asn1.value_set(int)
@unique
class ErrorCode(IntEnum):
    """`errorCode` of the Error message (catalogue row 24)."""

    UNSPECIFIED_FAILURE = 1
    MESSAGE_NOT_SUPPORTED = 2
    DECODING_FAILURE = 3
    INVALID_CERTIFICATE = 4
    EXPIRED_CERTIFICATE = 5
    REVOKED_CERTIFICATE = 6
    MISSING_CERTIFICATE = 7
    SIGNATURE_FAILURE = 8
    BAD_MESSAGE_HEADER = 9
    WRAPPER_MSG_MISMATCH = 10
    VERSION_TOO_OLD = 11
    VERSION_TOO_NEW = 12
    UNRECOGNIZED_EXTENSION = 13
    MESSAGE_TOO_BIG = 14
    SIGNATURE_REQUIRED = 15
    MESSAGE_TOO_OLD = 16
    MESSAGE_TOO_NEW = 17
    THUMBS_MISMATCH = 18
    UNKNOWN_RRPID = 19
    UNKNOWN_XID = 20
    UNKNOWN_LID = 21
    CHALLENGE_MISMATCH = 22
    GATEWAY_MISMATCH = 23
    INVOICE_MISMATCH = 24
    AMOUNT_MISMATCH = 25
    HASH_MISMATCH = 26
    ENVELOPE_MISMATCH = 27
    ACCOUNT_BINDING_FAILURE = 28
    XID_ALREADY_USED = 29
    INVOICE_EXPIRED = 30
    ROLE_NOT_ALLOWED = 31
    NOT_ONLINE_MERCHANT = 32
    RATE_LIMITED = 33
    ACK_TIMEOUT = 34
    UNKNOWN_OUTCOME = 35
    CLOCK_SKEW = 36
    BCI_STALE = 37

    @property
    def protocol_name(self) -> str:
        """The name as the protocol's tables spell it, for instance `wrapperMsgMismatch`."""
        return _camel_case(self.name)


@asn1.value_set(int)
@unique
class AuthCode(IntEnum):
    """`authCode` of AuthRes (catalogue row 14): what became of the authorisation."""

    APPROVED = 0
    UNSPECIFIED_FAILURE = 1
    DECLINED = 2
    NO_REPLY = 3
    CALL_ISSUER = 4
    AMOUNT_ERROR = 5
    EXPIRED_CARD = 6
    INVALID_TRANSACTION = 7
    SYSTEM_ERROR = 8
    PI_PREVIOUSLY_USED = 9
    RECURRING_TOO_SOON = 10
    RECURRING_EXPIRED = 11
    PI_AUTH_MISMATCH = 12
    INSTALL_RECUR_MISMATCH = 13
    CAPTURE_NOT_SUPPORTED = 14
    SIGNATURE_REQUIRED = 15
    CARD_MERCH_BRAND_MISMATCH = 16

    @property
    def protocol_name(self) -> str:
        """The name as the protocol's tables spell it, for instance `piPreviouslyUsed`."""
        return _camel_case(self.name)


@asn1.value_set(int)
@unique
class CompletionCode(IntEnum):
    """`completionCode` of Receipt (catalogue row 16): how far the purchase has come."""

    MEANINGLESS_RATIO = 0
    ORDER_REJECTED = 1
    ORDER_RECEIVED = 2
    ORDER_NOT_RECEIVED = 3
    AUTHORIZATION_PERFORMED = 4
    CAPTURE_PERFORMED = 5
    CREDIT_PERFORMED = 6

    @property
    def protocol_name(self) -> str:
        """The name as the protocol's tables spell it, for instance `authorizationPerformed`."""
        return _camel_case(self.name)


@asn1.value_set(int)
@unique
class SaleKind(IntEnum):
    """`saleKind` of PIHead and DualSigTBS: what the buyer agreed to."""

    SALE = 0
    AUTH_ONLY = 1


@asn1.value_set(int)
@unique
class RegistrationStatus(IntEnum):
    """`status` of CertRes, MerCertRes and GwCertRes (rows 3 to 5): where the application stands."""

    PENDING = 0
    ISSUED = 1
    RETURNED = 2
    REJECTED = 3
    WITHDRAWN = 4
    EXPIRED = 5


@asn1.value_set(int)
@unique
class PurchaseStatus(IntEnum):
    """`status` of InqRes (catalogue row 18): where the purchase stands when the answer is signed."""

    IN_PROGRESS = 0
    """Being worked on, or not ordered yet: nothing can be said; ask again."""
    CONCLUDED = 1
    """What the answer to the order said stands."""
    REVERSING = 2
    """The card may have been debited; what was taken is being given back."""
    REVERSED = 3
    """The card was not debited, or has its money back."""
    UNSETTLED = 4
    """The network took no reversal; people at the acquirer settle it."""

    @property
    def protocol_name(self) -> str:
        """The name as the protocol's tables spell it, for instance `inProgress`."""
        return _camel_case(self.name)


@asn1.value_set(int)
@unique
class ReversalReason(IntEnum):
    """`reason` of AuthRevReq (catalogue row 20): why the merchant takes less, or nothing."""

    CUSTOMER_CANCELLATION = 0
    NOT_DELIVERABLE = 1
    WRONG_AMOUNT = 2
    SUSPECTED_FRAUD = 3


@asn1.value_set(int)
@unique
class EntryKind(IntEnum):
    """`kind` of an entry in a batch or a settlement advice (rows 22 and 23): which way money moved, and why."""

    SALE = 0
    """Authorised and captured in one (AuthRes)."""
    SALE_REVERSAL = 1
    """A sale taken back, whole or in part (AuthRevRes)."""
    CAPTURE = 2
    CAPTURE_REVERSAL = 3
    CREDIT = 4
    CREDIT_REVERSAL = 5

    @property
    def sign(self) -> int:
        """+1 where the merchant gets the amount, -1 where it gives it."""
        return 1 if self in (EntryKind.SALE, EntryKind.CAPTURE, EntryKind.CREDIT_REVERSAL) else -1


@asn1.value_set(int)
@unique
class BatchOperation(IntEnum):
    """`operation` of BatchAdminReq (catalogue row 22)."""

    OPEN = 0
    CLOSE = 1
    STATUS = 2


@asn1.value_set(int)
@unique
class BatchStatus(IntEnum):
    """`status` of BatchAdminRes (catalogue row 22)."""

    OPEN = 0
    CLOSED = 1


@asn1.value_set(int)
@unique
class CertificateStatus(IntEnum):
    """`status` of a certificate in PCertRes and CertInqRes (rows 8 and 6)."""

    GOOD = 0
    SUSPENDED = 1
    """On the CRL with certificateHold: it may come back."""
    REVOKED = 2
    EXPIRED = 3


@asn1.value_set(int)
@unique
class RevocationReason(IntEnum):
    """`reason` of RevReq and CertInqRes (row 6): CRLReason, RFC 5280 5.3.1."""

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    CA_COMPROMISE = 2
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5
    CERTIFICATE_HOLD = 6
    PRIVILEGE_WITHDRAWN = 9

    @property
    def protocol_name(self) -> str:
        """The name as RFC 5280 spells it, for instance `keyCompromise`."""
        return "cACompromise" if self is RevocationReason.CA_COMPROMISE else _camel_case(self.name)

    @classmethod
    def named(cls, name: str) -> RevocationReason:
        """The reason of this name in RFC 5280; unspecified for one that the protocol does not know."""
        return next((each for each in cls if each.protocol_name == name), cls.UNSPECIFIED)


def _camel_case(name: str) -> str:
    first, *rest = name.lower().split("_")
    return first + "".join(word.capitalize() for word in rest)
