"""The gateway's operations as routes of the HSM service: where the keys are lent, recorded, and given back.

Each operation asks the vault for its keys by name; the vault refuses a caller whom their templates do not let use them,
writes the intent before the token is called and the outcome before the answer leaves. What is recorded holds no card
data and nothing that card data could be guessed from: a MAC's input is a message with the PAN and little else that an
insider does not know, so its hash is left out; so is that of an answer, in favour of its sealed part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway_keys import orders, passwords, wire
from gateway_keys.answers import sign_answer
from gateway_keys.errors import BlobError, DecodingFailedError, OrderRefusedError
from gateway_keys.orders import OrderKeys, SealedPin
from gateway_keys.routes import route_in_steps, route_in_thread
from gateway_keys.zone_exchange import index_of
from gateway_keys.zone_keys import ZONE_MAC, ZONE_MASTER, ZONE_PIN
from gateway_keys.zones import OVERLAP, HostZone, Zones
from hsm_service.kept_key import Key
from hsm_service.key_states import KeyState
from hsm_service.key_versions import Standing
from hsm_service.lending import InUse, Running
from hsm_service.openapi_route import ApiRoute
from hsm_service.steps import Steps
from hsm_service.templates import Operation
from hsm_service.vault import Vault
from kwbp.errors import ProtocolError
from kwbp.gateway import VerifiedOrder
from kwbp.wrapper import KwbpMessage, unwrap
from pki.cms_enveloped import AuthEnveloped, parse_auth_enveloped
from pki.der import sha256
from pki.errors import CmsError
from pki.oids import CT_OTP_REQ
from pki.path import Trust
from runtime.problems import Problem
from runtime.settings import Home
from shetab.iran import Banks
from shetab.types import Pan, Pin
from shetab.zone import SWITCH_ZONE, Zone

_XID_BYTES: Final = 20
_NOT_OPENED: Final = ("decoding-failure", "the sealed data could not be opened")
_OUT_OF_USE: Final = "key-not-enabled"
_OF_A_VERSION: Final = frozenset({_OUT_OF_USE, "key-not-yet-valid", "key-expired", "key-used-up", "key-not-usable"})
"""Problems of one version of a key, which say nothing of the others: limits are each version's own, so is its place."""
_WITHHELD: Final = frozenset({KeyState.DISABLED, KeyState.DESTROY_SCHEDULED})
"""States of a version that the token still holds, and that can be enabled again."""
_HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class KeyNames:
    """Names of the gateway's keys in the registry."""

    encryption: str = "gateway-encryption"
    vault: str = "gateway-vault"
    cards: str = "gateway-card-ids"
    zone_pin: str = ZONE_PIN.name
    zone_mac: str = ZONE_MAC.name
    zone_master: str = ZONE_MASTER.name
    signing: str = "gateway-signing"
    """Described as the key that signs answers; which one does is said by each request."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _is_known_issuer(prefix: str) -> bool:
    return Banks.load().of_bin(prefix) is not None


class GatewayKeys:
    """The plug-in; give it to the HSM service's application, which mounts its routes on a vault."""

    def __init__(
        self,
        anchors: Callable[[], tuple[x509.Certificate, ...]],
        *,
        names: KeyNames | None = None,
        accepts_bin: Callable[[str], bool] = _is_known_issuer,
        overlap: timedelta = OVERLAP,
        zone: Zone | None = None,
        others: Mapping[str, HostZone] | None = None,
        zone_of: Callable[[str], str] = lambda pan: SWITCH_ZONE,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        """`anchors` gives the pinned roots, `accepts_bin` tells which issuers are served (G10), by six digits.

        `overlap` is how long a zone MAC key verifies after it was replaced. `zone` says what PIN blocks and MACs are.
        `others` are zones beside the switch's, by name; `zone_of` tells in which of them an order of a PAN is sent: the
        gateway is not asked, for the PIN must be sealed before the gateway knows the card.
        """
        self._anchors = anchors
        self._names = names or KeyNames()
        self._accepts_bin = accepts_bin
        self._zone_of = zone_of
        self._clock = clock
        self._card_key: tuple[bytes, bytes] | None = None
        """CKA_ID and check value of the key of cards that was used last."""
        found = self._names
        self.zones: Final = Zones(
            HostZone(zone or Zone(), overlap),
            (found.zone_pin, found.zone_mac, found.zone_master),
            others or {},
            clock=clock,
        )

    @classmethod
    def of(
        cls,
        home: Home,
        *,
        names: KeyNames | None = None,
        overlap: timedelta = OVERLAP,
        zone: Zone | None = None,
        others: Mapping[str, HostZone] | None = None,
        zone_of: Callable[[str], str] = lambda pan: SWITCH_ZONE,
        clock: Callable[[], datetime] = _utc_now,
    ) -> GatewayKeys:
        """For an installation: its pinned root is read for every order, because a ceremony may write it meanwhile."""

        known: tuple[bytes, tuple[x509.Certificate, ...]] = b"", ()

        def anchors() -> tuple[x509.Certificate, ...]:
            nonlocal known
            path = home.trust_anchors
            pem = path.read_bytes() if path.exists() else b""
            if pem != known[0]:  # reading it takes less than parsing it
                known = pem, tuple(x509.load_pem_x509_certificates(pem)) if pem else ()
            return known[1]

        return cls(anchors, names=names, overlap=overlap, zone=zone, others=others, zone_of=zone_of, clock=clock)

    def routes(self, vault: Vault) -> list[ApiRoute]:
        """POST routes, all for the gateway service alone; see `gateway_keys.wire` for the bodies."""
        names = self._names
        return [
            route_in_steps(
                wire.OPEN_ORDER,
                "open-order",
                "Verify a buyer's sealed order, open it in the token, and give back what the gateway may see",
                wire.OpenOrderRequest,
                wire.OpenOrderAnswer,
                partial(self.open_order, vault),
                self._opening(),
            ),
            route_in_thread(
                wire.OPEN_OTP_REQ,
                "open-password-request",
                "Open a holder's request for a one-time password in the token, and give back what the gateway may see",
                wire.OpenPasswordRequest,
                wire.OpenPasswordAnswer,
                partial(self.open_password_request, vault),
                {names.encryption: Operation.OPEN},
            ),
            route_in_steps(
                wire.UNSEAL_PAN,
                "unseal-pan",
                "The card number of an order, for its reversal",
                wire.UnsealPanRequest,
                wire.UnsealPanAnswer,
                partial(self.unseal_pan, vault),
                {names.vault: Operation.UNSEAL},
            ),
            route_in_steps(
                wire.GENERATE_MAC,
                "generate-mac",
                "The MAC of an ISO 8583 message",
                wire.GenerateMacRequest,
                wire.GenerateMacAnswer,
                partial(self.zones.generate_mac, vault),
                {names.zone_mac: Operation.MAC},
            ),
            route_in_steps(
                wire.VERIFY_MAC,
                "verify-mac",
                "Whether the MAC of an ISO 8583 message is right",
                wire.VerifyMacRequest,
                wire.VerifyMacAnswer,
                partial(self.zones.verify_mac, vault),
                {names.zone_mac: Operation.VERIFY_MAC},
            ),
            route_in_steps(
                wire.SIGN_ANSWER,
                "sign-answer",
                "Have the answer to a merchant signed, if the MAC of the network's answer is right",
                wire.SignAnswerRequest,
                wire.SignAnswerAnswer,
                partial(sign_answer, self.zones, vault),
                {names.zone_mac: Operation.VERIFY_MAC, names.signing: Operation.CMS},
            ),
            route_in_thread(
                wire.RECEIVE_ZONE_KEY,
                "receive-zone-key",
                "Take in the zone key that the switch sent, wrapped under the zone master key; it is in use at once",
                wire.ReceiveZoneKeyRequest,
                wire.ZoneKeyAnswer,
                partial(self.zones.receive, vault),
                {names.zone_master: Operation.RECEIVE},
            ),
            route_in_thread(
                wire.TEND_ZONE_KEYS,
                "tend-zone-keys",
                "Destroy zone keys that were replaced long enough ago, and tell of those in use",
                wire.TendZoneKeysRequest,
                wire.ZoneKeysAnswer,
                partial(self.zones.tend, vault),
                {names.zone_mac: Operation.DESCRIBE, names.zone_pin: Operation.DESCRIBE},
            ),
        ]

    def _opening(self) -> dict[str, Operation]:
        names = self._names
        return {
            names.encryption: Operation.OPEN,
            names.vault: Operation.SEAL,
            names.cards: Operation.CARD_DIGEST,
            names.zone_pin: Operation.PIN_BLOCK,
        }

    def open_order(self, vault: Vault, caller: str, request: wire.OpenOrderRequest) -> Steps[wire.OpenOrderAnswer]:
        """KWBP G8 to G10, once G1, G6 and G7 hold.

        Raises Problem 422 `order-refused` (clause and code of the check) before anything is opened, 422
        `decoding-failure` (one answer for every cause) from then on.
        """
        names, now = self._names, self._clock()
        operations = self._opening()
        digest = sha256(request.pi_envelope)
        try:
            _check_length("hod", request.hod, _HASH_BYTES)
            own = self.zones.find(SWITCH_ZONE)
            own.check_kind(vault, own.pin, own.agreed.pin_key)
            key = self._recipient(vault, request.pi_envelope)
            order = self._verify(key, request, now)
        except Exception as error:
            yield from vault.lending.refuse(caller, "open-order", list(operations), error, input_sha256=digest)
            raise
        sealed_in = own

        def elsewhere(pin: Pin | None, pan: Pan) -> Steps[SealedPin | None]:
            nonlocal sealed_in
            sealed_in = self.zones.find(self._zone_of(pan.reveal()))
            return None if sealed_in is own else (yield from sealed_in.seal(vault, caller, pin, pan))

        def work(running: Running) -> Steps[wire.OpenOrderAnswer]:
            encryption, cards = running.keys[names.encryption], running.keys[names.cards]
            zone_pin = running.keys[names.zone_pin]
            keys = OrderKeys(
                token=encryption.token,
                encryption=encryption.ref,
                vault=running.keys[names.vault].ref,
                cards=cards.ref,
                zone_pin=zone_pin.ref,
                zone_pin_version=zone_pin.key.row.version,
            )
            try:
                opened = yield from orders.open_order(
                    order,
                    keys=keys,
                    now=now,
                    accepts_bin=self._accepts_bin,
                    block_format=own.agreed.pin_block_format,
                    elsewhere=elsewhere,
                )
            except DecodingFailedError as error:
                running.outcome.cause = error.cause
                raise _decoding_failure() from None
            running.outcome.output_sha256 = sha256(opened.pan_sealed).hex()
            check = yield from self._card_key_check(cards)
            return wire.OpenOrderAnswer(
                pan=opened.pan.reveal(),
                expiry=opened.expiry.reveal(),
                cvv2=None if opened.cvv2 is None else opened.cvv2.reveal(),
                pin_block=opened.pin_block,
                pan_sealed=opened.pan_sealed,
                masked_pan=opened.masked_pan,
                card_id=opened.card_id,
                card_key_version=cards.key.row.version,
                card_key_check=check,
                pin_key_index=opened.pin_key_index,
                mac_key_index=index_of(vault.key(sealed_in.mac).row.version),
                pin_block_format=opened.pin_block_format,
                zone=sealed_in.name,
            )

        version = {names.encryption: key.row.version}
        return (
            yield from vault.lending.steps(
                caller, "open-order", operations, work, input_sha256=digest, versions=version
            )
        )

    def _card_key_check(self, cards: InUse) -> Steps[bytes]:
        """Computed once a key: an order does not wait for it."""
        cka_id, known = cards.ref.cka_id, self._card_key
        if known is None or known[0] != cka_id:
            known = self._card_key = (cka_id, (yield from orders.card_key_check(cards.token, cards.ref)))
        return known[1]

    def open_password_request(
        self, vault: Vault, caller: str, request: wire.OpenPasswordRequest
    ) -> wire.OpenPasswordAnswer:
        """KWBP P2 to P4.

        Raises Problem 422 `order-refused` (clause and code of the check) before anything is opened, 422
        `decoding-failure` (one answer for every cause) from then on.
        """
        name, now = self._names.encryption, self._clock()
        digest = sha256(request.message)
        with vault.lending.refusals(caller, "open-password-request", [name], input_sha256=digest):
            key, message, envelope = self._addressed(vault, request.message)
        gateway, operations = key.pair().certificate, {name: Operation.OPEN}
        with vault.lending.operation(
            caller, "open-password-request", operations, input_sha256=digest, versions={name: key.row.version}
        ) as running:
            encryption = running.keys[name]
            try:
                opened = passwords.open_request(
                    message,
                    envelope,
                    token=encryption.token,
                    encryption=encryption.ref,
                    gateway=gateway,
                    merchant_id=request.merchant_id,
                    accepts_bin=self._accepts_bin,
                    trust=Trust(anchors=self._anchors()),
                    now=now,
                )
            except DecodingFailedError as error:
                running.outcome.cause = error.cause
                raise _decoding_failure() from None
        asked, card = opened.asked, opened.card_certificate
        chain = (card, *(each for each in opened.chain if each != card))
        return wire.OpenPasswordAnswer(
            rrpid=asked.rrpid,
            xid=asked.xid,
            merchant_id=asked.merchant_id,
            amount=asked.amount.amount,
            h_otp_req=asked.h_otp_req,
            pan=opened.pan.reveal(),
            expiry=opened.expiry.reveal(),
            certificates=[each.public_bytes(Encoding.DER) for each in chain],
        )

    def _addressed(self, vault: Vault, data: bytes) -> tuple[Key, KwbpMessage, AuthEnveloped]:
        """The version of the encryption key that a sealed request is for, and the request as it came."""
        try:
            body = unwrap(data, expected=(CT_OTP_REQ,)).body
            key = self._recipient(vault, body)
            return (key, *passwords.receive(data, gateway=key.pair().certificate))
        except (ProtocolError, OrderRefusedError) as error:
            raise Problem(
                422, "order-refused", error.detail, clause=f"KWBP {error.check}", code=int(error.code)
            ) from None

    def _recipient(self, vault: Vault, pi_envelope: bytes) -> Key:
        """The version of the encryption key whose certificate the envelope names; the one in use if it names none.

        Orders that were sealed before a rotation are opened by the version they were sealed to, until it is disabled.
        """
        in_use = vault.key(self._names.encryption)
        try:
            envelope = parse_auth_enveloped(pi_envelope)
        except CmsError:
            return in_use  # G1 says what is wrong with it
        for key in vault.versions(self._names.encryption):
            if key.signing is not None and key.signing.chain and envelope.is_for(key.signing.certificate):
                return key
        return in_use

    def _verify(self, key: Key, request: wire.OpenOrderRequest, now: datetime) -> VerifiedOrder:
        gateway = key.pair().certificate
        trust = Trust(anchors=self._anchors())
        try:
            return orders.verify_order(
                request.pi_envelope, request.dual_signature, request.hod, gateway=gateway, trust=trust, now=now
            )
        except OrderRefusedError as error:
            raise Problem(
                422, "order-refused", error.detail, clause=f"KWBP {error.check}", code=int(error.code)
            ) from None

    def unseal_pan(self, vault: Vault, caller: str, request: wire.UnsealPanRequest) -> Steps[wire.UnsealPanAnswer]:
        """The PAN of an order, for its reversal; Problem 422 `decoding-failure` if the blob is not of this order.

        Problem 409 `key-not-enabled`, or whatever else keeps a version from serving, if such a version may be the one
        that sealed it: that is no fault of the order, and can be mended.
        """
        name, digest = self._names.vault, sha256(request.pan_sealed)
        try:
            _check_length("xid", request.xid, _XID_BYTES)
        except Problem as error:
            yield from vault.lending.refuse(caller, "unseal-pan", [name], error, input_sha256=digest)
        # The blob does not say which version sealed it; after a rotation, the older ones are tried too.
        versions = vault.versions(name)
        kept_from_it: Problem | None = None
        serving: list[int | None] = [key.row.version for key in versions if _opens_still(key)]
        for version in serving or [None]:
            try:
                return (yield from self._unseal(vault, caller, request, version))
            except _NotThisVersion:
                continue
            except Problem as problem:
                if problem.type not in _OF_A_VERSION:
                    raise
                kept_from_it = problem  # another version may open it all the same
        if kept_from_it is not None:
            raise kept_from_it
        if any(key.row.state in _WITHHELD for key in versions):
            withheld = Problem(409, _OUT_OF_USE, f"no enabled version of {name} opens this; one that is disabled may")
            yield from vault.lending.refuse(caller, "unseal-pan", [name], withheld, input_sha256=digest)
        raise _decoding_failure()

    def _unseal(
        self, vault: Vault, caller: str, request: wire.UnsealPanRequest, version: int | None
    ) -> Steps[wire.UnsealPanAnswer]:
        name, digest = self._names.vault, sha256(request.pan_sealed)

        def work(running: Running) -> Steps[wire.UnsealPanAnswer]:
            key = running.keys[name]
            try:
                pan = yield from orders.unseal_pan(key.token, key.ref, request.xid, request.pan_sealed)
            except BlobError:
                raise _NotThisVersion from None
            return wire.UnsealPanAnswer(pan=pan.reveal())

        versions = {} if version is None else {name: version}
        operations = {name: Operation.UNSEAL}
        return (
            yield from vault.lending.steps(
                caller, "unseal-pan", operations, work, input_sha256=digest, versions=versions
            )
        )


def _check_length(field: str, value: bytes, length: int) -> None:
    if len(value) != length:
        raise Problem(422, "invalid-request", f"{field} has {length} bytes")


def _decoding_failure() -> Problem:
    """One answer, the same bytes, for whatever was wrong inside."""
    return Problem(422, *_NOT_OPENED, clause="KWBP G8")


class _NotThisVersion(Problem):
    """The blob is none of this version of the key; a decoding failure unless another version opens it."""

    def __init__(self) -> None:
        super().__init__(422, *_NOT_OPENED, clause="KWBP G8")


def _opens_still(key: Key) -> bool:
    return key.row.state is KeyState.ENABLED and key.standing is not Standing.COMING
