"""A hotline desk on this machine beside a demo: the real gateway posts its orders there over HTTP.

with Hotline("330110001001") as hotline:
    hotline.tables()         what gateway.toml needs to know of it
    hotline.orders()         what has come so far
    hotline.take(order)      somebody at the desk takes it
"""

from __future__ import annotations

import asyncio
import threading
import time
from types import TracebackType

import structlog

from hil_tests.errors import RigError
from hil_tests.order_page import OrderServer
from hil_tests.world.order_desk import DeskOrder, OrderDesk

# Who is told one after the other, by level; the grid has the area of the sites.
HANDLERS = {"grid": "grid-1", "street": "street-1", "district": "district-1", "city": "city-1"}
_CODES = {"street": "330110001", "district": "330110", "city": "3301"}
_START_TIMEOUT_S = 10.0


def area_tables(grid: str, escalate_after_min: int) -> list[str]:
    """[[area]] tables from a grid up to its city."""
    codes = {"grid": grid, **_CODES}
    levels, parents = list(codes), [*list(codes.values())[1:], ""]
    return [
        f'[[area]]\ncode = "{codes[level]}"\nname = "{level}"\nlevel = "{level}"\nhandler = "{HANDLERS[level]}"\n'
        f"escalate_after_min = {escalate_after_min}\n" + (f'parent = "{parent}"\n' if parent else "")
        for level, parent in zip(levels, parents, strict=True)
    ]


class Hotline:
    """The desk's server, in a thread of its own."""

    def __init__(self, area: str, *, escalate_after_min: int = 1) -> None:
        self._area = area
        self._escalate_after_min = escalate_after_min
        self._desk = OrderDesk()
        self._server: OrderServer | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hotline", daemon=True)

    def __enter__(self) -> Hotline:
        self._thread.start()
        if not self._is_ready.wait(_START_TIMEOUT_S) or self._server is None:
            raise RigError("the hotline desk does not come up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        quiet = structlog.wrap_logger(
            structlog.ReturnLogger(), processors=[structlog.processors.JSONRenderer()]
        )
        server = OrderServer(self._desk, quiet, on_listening=self._is_ready.set)
        self._server = server
        self._task = asyncio.ensure_future(server.run())
        await asyncio.wait({self._task})

    def close(self) -> None:
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(_START_TIMEOUT_S)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.port}"

    def tables(self) -> list[str]:
        """For gateway.toml."""
        orders = (
            f'[[work_orders]]\nname = "hotline"\nurl = "{self.url}/orders"\nanswer_url = "{self.url}/answers"\n'
            f'status_url = "{self.url}/orders/{{code}}"\nstatus_every_s = 5\n'
        )
        return [*area_tables(self._area, self._escalate_after_min), orders]

    def handler(self, area: str) -> str:
        """Who is told when an order is that area's."""
        codes = {self._area: "grid", **{code: level for level, code in _CODES.items()}}
        return HANDLERS[codes[area]] if area in codes else area

    def orders(self) -> list[DeskOrder]:
        """The oldest first."""
        return list(self._desk.orders.values())

    def take(self, order: DeskOrder, who: str) -> None:
        """Somebody at the desk takes it."""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() + 8 * 3600))
        self._loop.call_soon_threadsafe(self._desk.clerk, order, "seen", at, who)
