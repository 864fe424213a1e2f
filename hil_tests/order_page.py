"""The desk's HTTP server: takes orders, and shows them on a page. `tidegate street orders` runs it.

POST /orders, /answers       what a gateway sends (JSON)
GET  /orders                 all orders (JSON)
GET  /orders/CODE            what the desk did about an order (JSON, with an ETag)
GET  /                       the page: self-contained, Chinese and English, fits a phone
POST /clerk                  a button of the page: code and what to do; from this page only
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import ssl
import time
from collections.abc import Callable
from html import escape
from typing import Any
from urllib.parse import parse_qs

from gateway.web import HttpServer, Page, Request, json_page
from hil_tests.world.order_desk import NO, DeskOrder, OrderDesk, answer_to_get

BODY_BYTES_MAX = 65_536
_SHOWN_MAX = 500
_STATES = ("待处理 pending", "处理中 in progress", "已办结 done")
_STYLE = """body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;
padding:1rem;background:#f4f5f7;color:#1c1e21}
h1{font-size:1.3rem}article{background:#fff;border-left:.4rem solid #c62828;border-radius:.3rem;
margin:.8rem 0;padding:.7rem 1rem}
article.s1{border-color:#ef6c00}article.s2{border-color:#2e7d32}
p{margin:.3rem 0;overflow-wrap:anywhere}small{color:#5a6069}
button{font:inherit;padding:.4rem 1rem;margin:.3rem .5rem 0 0}"""


class OrderServer:
    """A desk at an address."""

    def __init__(
        self,
        desk: OrderDesk,
        log: Any,
        port: int = 0,
        address: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        on_listening: Callable[[], None] = lambda: None,
    ) -> None:
        self.desk = desk
        self.ready = asyncio.Event()
        self._on_listening = on_listening
        self._secret = secrets.token_hex(16)
        self._server = HttpServer(
            "orders", address, port, self.handle, log, tls=tls, body_bytes_max=BODY_BYTES_MAX,
            on_listening=self._listens,
        )  # fmt: skip

    def _listens(self) -> None:
        self.ready.set()
        self._on_listening()

    @property
    def port(self) -> int:
        return self._server.port

    async def run(self) -> None:
        await self._server.run()

    async def handle(self, request: Request) -> Page:
        path = request.target.partition("?")[0]
        if request.method in ("GET", "HEAD") and path == "/":
            return Page(200, "text/html; charset=utf-8", self._page().encode(), _NO_FRAMES)
        if request.method in ("GET", "HEAD") and path == "/orders":
            return json_page(200, [self.told(order) for order in self.desk.orders.values()])
        if request.method in ("GET", "HEAD") and path.startswith("/orders/"):
            return self._status(path, request.headers.get("if-none-match", ""))
        if request.method != "POST":
            return Page(404, "text/plain", b"there is nothing here\n")
        if path == "/clerk":
            return self._clerk(request)
        if path in ("/orders", "/answers"):
            return await self._take(request.body)
        return Page(404, "text/plain", b"there is nothing here\n")

    def told(self, order: DeskOrder) -> dict[str, Any]:
        """An order for programs: what was told last, and when and to whom it was told what."""
        history = [{"at": at_s, "state": state, "area": area} for at_s, state, area in order.history]
        return {**order.fields, "arrived": order.arrived_s, "history": history, "answers": order.answers}

    async def _take(self, body: bytes) -> Page:
        fault = self.desk.fault_of(body)
        if fault in ("error", "away"):
            return Page(500, "text/html", b"<html>500</html>")
        if fault in ("no", "garbage"):
            return Page(200, "application/json", NO if fault == "no" else b'{"success":"true","code":10000}')
        answer = self.desk.take(body, time.time())
        if fault in ("slow", "swallow"):
            await asyncio.sleep(2.0 if fault == "slow" else 30.0)
        return Page(200, "application/json", answer)

    def _status(self, path: str, etag: str) -> Page:
        status, body, etag = answer_to_get(self.desk, path, etag)
        return Page(status, "application/json", body, (("ETag", etag),) if etag else ())

    def _clerk(self, request: Request) -> Page:
        """A form of our own page: its secret is in it, and a browser says that it comes from here."""
        fields = {key: values[0] for key, values in parse_qs(request.body.decode("ascii", "replace")).items()}
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        is_ours = hmac.compare_digest(fields.get("secret", "").encode(), self._secret.encode())
        if not is_ours or origin not in (None, f"http://{host}"):
            return Page(403, "text/plain", b"only from this desk's own page\n")
        order = self.desk.orders.get(fields.get("code", ""))
        if order is None or fields.get("do") not in ("seen", "close"):
            return Page(404, "text/plain", b"no such order\n")
        self.desk.clerk(order, fields["do"], time.strftime("%Y-%m-%d %H:%M:%S"))
        return Page(303, "text/plain", b"", (("Location", "/"),))

    def _page(self) -> str:
        orders = sorted(self.desk.orders.values(), key=lambda order: -order.arrived_s)[:_SHOWN_MAX]
        shown = "".join(map(self._article, orders)) or "<p>没有工单 no orders</p>"
        return (
            '<!doctype html><html lang="zh"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<meta http-equiv="refresh" content="3"><title>工单 Work orders</title><style>{_STYLE}</style></head>'
            f"<body><h1>工单 Work orders ({len(self.desk.orders)})</h1>{shown}</body></html>"
        )

    def _article(self, order: DeskOrder) -> str:
        told = order.fields
        state = told["state"] if told["state"] in (0, 1, 2) else 0
        note = " · 已接单 seen" if order.seen_by_clerk else ""
        note += " · 坐席已关闭 closed by the desk" if order.closed_by_clerk else ""
        buttons = "".join(
            f'<button name="do" value="{do}">{label}</button>'
            for do, label in (("seen", "接单 Acknowledge"), ("close", "关闭 Close"))
        )
        form = (
            f'<form method="post" action="/clerk"><input type="hidden" name="secret" value="{self._secret}">'
            f'<input type="hidden" name="code" value="{escape(order.code)}">{buttons}</form>'
        )
        return (
            f'<article class="s{state}"><b>{_STATES[state]}{note}</b> <small>{escape(order.code)}</small>'
            f"<p>{escape(str(told['workordercontent']))}</p>"
            f"<p><small>{escape(str(told['place']))} · {escape(str(told['area']))} · "
            f"{escape(str(told['dispatchtime']))}</small></p>{'' if state == 2 else form}</article>"
        )


_NO_FRAMES = (
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("Cache-Control", "no-store"),
)
