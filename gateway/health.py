"""/healthz, /readyz and /metrics: pages without a password, for load balancers, scrapers and people with curl.

healthz answers 503 while a part is stalled: restarting may help. readyz answers 503 while the gateway
cannot do its job, with the reasons: restarting will not. metrics is the Prometheus text format
(metrics.py).
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.log import Logger
from gateway.web import HttpServer, Page, Request, json_page


class HealthServer(HttpServer):
    """Serves `pages`, path → function that makes the page."""

    def __init__(
        self,
        address: str,
        port: int,
        pages: dict[str, Callable[[], Page]],
        log: Logger,
        *,
        on_listening: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__("health", address, port, self._answer, log, on_listening=on_listening)
        self.pages = pages

    async def _answer(self, request: Request) -> Page:
        if request.method not in ("GET", "HEAD"):
            return json_page(405, {"error": "allowed are GET and HEAD"}, ("Allow", "GET, HEAD"))
        make = self.pages.get(request.target.partition("?")[0])
        if make is None:
            return json_page(404, {"error": "no such page", "pages": list(self.pages)})
        return make()
