"""Both clients against the real service; the same tests for the vault, which offers the same interface in process."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from hsm_service.bound import BoundVault
from hsm_service.client import AsyncHsmClient, HsmClient
from hsm_service.operation_info import ApprovalNeeded
from hsm_service.operation_request import parse_request
from hsm_service.service import KeyInfo, SigningService
from pki import oids
from pki.attestation import KeyAttestation
from pki.cms_signed import parse_signed_data, verify_signature
from pki.csr import parse_csr
from pki.names import name
from runtime.client import TlsFiles, async_http_client
from runtime.problems import Problem
from tests.support.approved import Desk
from tests.support.key_officers import KeyOfficers
from tests.support.signing_site import (
    ACK,
    CA,
    OPERATOR,
    SHOP,
    Served,
    acknowledgement,
    crl,
    der,
    merchant_chain,
    public_key,
    refusal,
)
from tests.support.softhsm import run_python


class FromLoop:
    """An AsyncHsmClient behind blocking methods, one event loop for all of them."""

    def __init__(self, url: str, tls: TlsFiles) -> None:
        self._runner = asyncio.Runner()
        self._client = self._runner.run(self._make(url, tls))

    async def _make(self, url: str, tls: TlsFiles) -> AsyncHsmClient:
        return AsyncHsmClient.connect(url, tls)

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda *arguments, **named: self._runner.run(getattr(self._client, method)(*arguments, **named))

    def end(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


@contextmanager
def _service(kind: str, served: Served, caller: str) -> Iterator[SigningService]:
    if kind == "vault":
        yield served.vault.as_caller(caller)
    elif kind == "blocking":
        with HsmClient.connect(served.url, served.identity(caller)) as client:
            yield client
    else:
        from_loop = FromLoop(served.url, served.identity(caller))
        service: Any = from_loop
        yield service
        from_loop.end()


kinds = pytest.mark.parametrize("kind", ["vault", "blocking", "asynchronous"])


@kinds
def test_a_merchants_key_from_its_making_to_its_first_signature(kind: str, served: Served) -> None:
    key = f"new-{kind}"
    officers = KeyOfficers(served.world.pki)
    with _service(kind, served, OPERATOR) as operator:
        with pytest.raises(ApprovalNeeded) as asked:
            operator.generate_key(key, "merchant-signing-ec", owner="M-1", reason="a shop")
        request = parse_request(asked.value.operation.request)
        for officer in (officers.first, officers.second):
            served.vault.operations.approve("officer:any", request.id, officers.approve(request, officer))
        info = operator.describe_key(key)
        assert isinstance(info, KeyInfo)
        csr = operator.certification_request(key, name(cn="M-1").public_bytes(), ["urn:kwbp:merchant:M-1"])
        assert parse_csr(csr).public_key() == public_key(info.public_key)
        chain = der(*merchant_chain(served.world.pki, "M-1", public_key(info.public_key)))
        operator.attach_certificate(key, chain)
    with _service(kind, served, SHOP) as merchant:
        assert list(merchant.describe_key(key).certificate_chain) == chain
        signed = parse_signed_data(merchant.sign_cms(key, ACK, acknowledgement()), content_type=oids.CT_AUTH_ACK)
        verify_signature(signed)
        attestation = parse_signed_data(merchant.attest_key(key), content_type=oids.CT_KEY_ATTESTATION)
        assert KeyAttestation.from_der(attestation.content).key_name == key
        assert merchant.describe_key(key).uses == 2
        assert key in {listed.name for listed in merchant.list_keys()}


@kinds
def test_an_authoritys_certificate_and_list(kind: str, served: Served) -> None:
    issuer = served.vault.key("merchant-ca-ec").pair()
    with _service(kind, served, CA) as ca:
        certificate = ca.sign_certificate("merchant-ca-ec", *Desk(served.world.pki).approved(issuer))
        number = {"vault": 1, "blocking": 2, "asynchronous": 3}[kind]
        signed = ca.sign_crl("merchant-ca-ec", crl(served.vault, number, "merchant-ca-ec"))
    x509.load_der_x509_certificate(certificate).verify_directly_issued_by(issuer.certificate)
    assert x509.load_der_x509_crl(signed).is_signature_valid(issuer.public_key)


@kinds
def test_a_refusal_is_the_same_problem_whichever_way_it_came(kind: str, served: Served) -> None:
    with _service(kind, served, SHOP) as merchant:
        problem = refusal(lambda: merchant.sign_cms("shop-ec", ACK, acknowledgement("M-2")), 422, "content-refused")
        assert problem.clause == "KWBP S1"
        refusal(lambda: merchant.sign_cms("nobody", ACK, b""), 404, "key-not-found")
        refusal(lambda: merchant.describe_key("brand"), 403, "caller-not-allowed")
        refusal(lambda: merchant.generate_key("shop", "merchant-signing-ec", owner="M-1"), 409, "key-exists")
        refusal(lambda: merchant.certification_request("shop", b"nonsense"), 422, "bad-subject")
        refusal(lambda: merchant.attach_certificate("shop", []), 422, "bad-chain")


@pytest.mark.parametrize("text", ["a/b", "..", "x?y=1", "x#y", "فروشگاه", "a b", "x\r\ny"])
@pytest.mark.parametrize("kind", ["blocking", "asynchronous"])
def test_a_name_stays_one_segment_of_the_path(kind: str, text: str, served: Served) -> None:
    with _service(kind, served, SHOP) as merchant:
        with pytest.raises(Problem) as caught:
            merchant.describe_key(text)
        assert caught.value.status == 404


def test_the_whole_answer_names_key_version_algorithm_and_record(served: Served) -> None:
    with HsmClient.connect(served.url, served.identity(SHOP)) as client:
        answer = client.sign("shop", "cms", acknowledgement(), content_type=ACK, version=1)
    assert (answer.key, answer.version, answer.algorithm) == ("shop", 1, "rsa-pss-sha256")
    assert answer.log_index == len(served.world.journal()) - 1


def test_many_calls_at_once_share_a_bounded_pool_of_connections(served: Served) -> None:
    async def main() -> None:
        async with AsyncHsmClient.connect(served.url, served.identity(SHOP), connections=4) as client:
            answers = await asyncio.gather(
                *(client.sign(key, "cms", acknowledgement(), content_type=ACK) for key in ("shop", "shop-ec") * 12)
            )
        for answer, key in zip(answers, ("shop", "shop-ec") * 12, strict=True):
            assert answer.key == key
            verify_signature(parse_signed_data(answer.signed, content_type=oids.CT_AUTH_ACK))

    asyncio.run(main())


def test_an_httpx_client_serves_as_transport_too(served: Served) -> None:
    async def main() -> None:
        transport = async_http_client(served.identity(SHOP), served.url)
        async with AsyncHsmClient(transport) as client:
            assert (await client.describe_key("shop")).name == "shop"

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["blocking", "asynchronous"])
def test_a_service_that_is_not_there_is_a_problem(kind: str, served: Served) -> None:
    nowhere = Served("https://127.0.0.1:1", served.world, served.vault, served.tls)
    with _service(kind, nowhere, SHOP) as merchant:
        refusal(merchant.list_keys, 503, "hsm-unreachable")


@pytest.mark.parametrize("client", [HsmClient, AsyncHsmClient, BoundVault])
def test_every_method_of_the_service_is_offered_with_the_same_parameters(client: type) -> None:
    for method, wanted in inspect.getmembers(SigningService, inspect.isfunction):
        if method.startswith("_"):
            continue
        offered = inspect.signature(getattr(client, method))
        assert list(offered.parameters) == list(inspect.signature(wanted).parameters), method


def test_a_client_needs_no_token_module(tmp_path: Path) -> None:
    program = "import sys, hsm_service.client, hsm_service.service; print('pkcs11' in sys.modules)"
    assert run_python(program).stdout.strip() == "False"
