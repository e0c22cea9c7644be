"""A shop front that lies: it holds the shop's TLS key but not its signing key, and raises the price by one rial.

    dishonest_front.py SHOP PORT

Everything goes through to the real merchant server; in the invoice that comes back, the amount is one rial higher
wherever it stands. What a buyer's wallet must notice.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx

from kwbp.common import read_signed
from kwbp.errors import ProtocolError
from kwbp.messages import InvoiceMessage, InvoiceTBS
from kwbp.structure import decode
from kwbp.wrapper import MEDIA_TYPE, unwrap
from pki import der
from pki.oids import CT_INVOICE, MT_INVOICE
from runtime.client import http_client
from runtime.server import server_context
from runtime.settings import Home, Settings


def raise_price(message: bytes) -> bytes:
    """The invoice message with the amount one rial higher in every place; other messages as they are."""
    try:
        envelope = decode(InvoiceMessage, unwrap(message, expected=(MT_INVOICE,)).body)
        amount = read_signed(InvoiceTBS, CT_INVOICE, envelope.invoice).body.amount.amount
    except ProtocolError:
        return message
    honest, higher = der.encode(amount), der.encode(amount + 1)
    if len(honest) != len(higher) or honest not in message:
        raise SystemExit("this amount cannot be changed without changing lengths")
    return message.replace(honest, higher)


class Front(BaseHTTPRequestHandler):
    """Passes everything on, with the price raised on the way back."""

    merchant: httpx.Client

    def do_POST(self) -> None:  # http.server's naming
        body = self.rfile.read(int(self.headers["content-length"]))
        answer = self.merchant.post(self.path, content=body, headers={"content-type": MEDIA_TYPE})
        changed = raise_price(answer.content)
        self.send_response(answer.status_code)
        self.send_header("content-type", answer.headers["content-type"])
        self.send_header("content-length", str(len(changed)))
        self.end_headers()
        self.wfile.write(changed)

    def log_message(self, *_arguments: Any) -> None:
        return


def main() -> None:
    shop, port = sys.argv[1], int(sys.argv[2])
    home = Home.find()
    tls = home.tls_files(f"merchant-{shop}")
    Front.merchant = http_client(None, Settings.load(home).merchants[shop].url, ca=home.trust_anchors)
    server = HTTPServer(("127.0.0.1", port), Front)
    server.socket = server_context(tls, "none").wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
