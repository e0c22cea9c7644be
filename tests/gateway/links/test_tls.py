"""TLS around a line: mutual, 1.3, the other side known by its certificate; without it no byte of a payment leaves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pki.names import identity_uri
from runtime.client import TlsFiles, client_context
from runtime.server import server_context
from runtime.settings import Home
from tests.gateway.conftest import line, run, until
from tests.gateway.links.test_lines import ask, sale
from tests.support.payment_parties import now
from tests.support.payment_site import tls_files
from tests.support.pki_factory import PkiFactory
from tests.support.scripted_switch import ScriptedSwitch


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], TlsFiles]:
    """TLS files of a name, below one of several roots: `identity(root, name)`."""
    homes: dict[str, tuple[Home, PkiFactory]] = {}

    def made(root: str, name: str) -> TlsFiles:
        if root not in homes:
            home, pki = Home(tmp_path_factory.mktemp(root)), PkiFactory(now=now().replace(microsecond=0))
            home.create()
            pki.write(home.pki)
            homes[root] = home, pki
        home, pki = homes[root]
        return tls_files(home, pki, name, identity_uri("service", name))

    return made


def test_a_line_over_mutual_tls_carries_payments(identity: Callable[[str, str], TlsFiles]) -> None:
    async def scenario() -> None:
        server = server_context(identity("ours", "switch"), "required")
        client = client_context(identity("ours", "gateway"))
        async with ScriptedSwitch(tls=server) as switch:
            async with line(switch, tls=client, server_name="localhost", connections=2) as link:
                assert (await ask(link, sale(1)))[39] == "00"
                assert all(state.tls for state in link.lines())
                tls = switch.writers[0].get_extra_info("ssl_object")
                assert tls.version() == "TLSv1.3"
                assert tls.getpeercert() is not None

    run(scenario())


@pytest.mark.parametrize(
    ("server", "client", "name"),
    [
        (("ours", "switch"), ("ours", "gateway"), "other.example"),
        (("theirs", "switch"), ("ours", "gateway"), "localhost"),
        (("ours", "switch"), ("theirs", "gateway"), "localhost"),
        (("ours", "switch"), None, "localhost"),
    ],
    ids=["another name", "another anchor", "a client of others", "no TLS at all"],
)
def test_who_is_not_known_gets_no_byte_of_a_message(
    identity: Callable[[str, str], TlsFiles], server: tuple[str, str], client: tuple[str, str] | None, name: str
) -> None:
    async def scenario() -> None:
        async with ScriptedSwitch(tls=server_context(identity(*server), "required")) as switch:
            tls = None if client is None else client_context(identity(*client))
            settings = {"tls": tls, "server_name": name, "management_timeout": 0.3}
            async with line(switch, wait=False, **settings) as link:
                await until(lambda: link.lines()[0].reconnects >= 3)
                assert not link.signed_on
            assert switch.received == []

    run(scenario())
