"""What a person or another system may ask of the gateway, as one function: plain data in, plain data out.

`tidegate gateway …` calls it over the control socket while the daemon runs, and directly when it does
not; a later northbound that forwards commands calls it too. `by.who` is never taken from the request: the
caller proves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from gateway import limits, node_file, positions
from gateway.command_words import args_of
from gateway.commands import OPERATIONS, Commands, Report
from gateway.errors import CommandError, ControlError, GatewayError
from gateway.programs import UNKNOWN, Program
from gateway.registry import By, Registry, Site
from gateway.tokens import Tokens
from gateway.wishes import Wishes
from protocols.wire import codes

if TYPE_CHECKING:
    from protocols.wire.messages import Args

Request = dict[str, Any]
Reply = dict[str, Any]
# Operations that change nothing.
LOOKS = frozenset(
    {
        "status",
        "node.list",
        "node.show",
        "site.list",
        "command.list",
        "settings.list",
        "device.list",
        "token.list",
        "alarm.list",
        "alarm.show",
        "damage.list",
        "port.list",
        "node.console",
        "campaign.list",
        "campaign.show",
        "campaign.node",
    }
)


class Operations:
    """The operations by name. `status` is what the caller of a stopped gateway gets to see without the live parts."""

    def __init__(
        self,
        registry: Registry,
        commands: Commands,
        wishes: Wishes,
        tokens: Tokens,
        status: Callable[[], Reply] = dict,
        inspect: Callable[[int, int], Reply] | None = None,
        devices: Callable[[], list[Reply]] | None = None,
        reset_device: Callable[[str, By], Awaitable[int]] | None = None,
        write_device: Callable[[str, str, float, float, By], Awaitable[tuple[str, str]]] | None = None,
        programs: Callable[[], Mapping[int, Program]] = dict,
    ) -> None:
        self._registry = registry
        self._commands = commands
        self._wishes = wishes
        self._tokens = tokens
        self._status = status
        self._inspect = inspect
        self._devices = devices
        self._reset_device = reset_device
        self._write_device = write_device
        self._programs = programs
        self._table: dict[str, Callable[[Request, By], Awaitable[Reply]]] = {
            "status": self._do_status,
            "node.import": self._do_node_import,
            "node.list": self._do_node_list,
            "node.show": self._do_node_show,
            "node.remove": self._do_node_remove,
            "site.add": self._do_site_add,
            "site.locate": self._do_site_locate,
            "site.assign": self._do_site_assign,
            "site.replace": self._do_site_replace,
            "site.list": self._do_site_list,
            "command.send": self._do_command_send,
            "command.list": self._do_command_list,
            "settings.set": self._do_settings_set,
            "settings.list": self._do_settings_list,
            "device.list": self._do_device_list,
            "device.reset": self._do_device_reset,
            "device.write": self._do_device_write,
            "token.add": self._do_token_add,
            "token.list": self._do_token_list,
            "token.revoke": self._do_token_revoke,
        }

    @property
    def names(self) -> list[str]:
        """All there are."""
        return list(self._table)

    def add(self, name: str, operation: Callable[[Request, By], Awaitable[Reply]]) -> None:
        """Offer one more, of a part that has a file of its own."""
        self._table[name] = operation

    async def handle(self, request: Request, who: str) -> Reply:
        """Carry out `request`, {"operation": name, …}. Raises an error of gateway.errors."""
        name = request.get("operation")
        operation = self._table.get(name) if isinstance(name, str) else None
        if operation is None:
            raise CommandError(f"operation {name!r:.40} is unknown. Known: {', '.join(self._table)}.")
        why = request.get("why") or ""
        if not isinstance(why, str):
            raise CommandError("'why' must be a text.")
        if len(why) > limits.WHY_CHARS_MAX:
            raise CommandError(f"'why' has {len(why)} characters; allowed are {limits.WHY_CHARS_MAX}.")
        return await operation(request, By(who, why))

    async def _do_status(self, request: Request, by: By) -> Reply:
        return self._status()

    async def _do_node_import(self, request: Request, by: By) -> Reply:
        text, name = _need(request, "text", str), _need(request, "name", str)
        minted = await asyncio.to_thread(node_file.parse, text, name)
        done = await self._registry.import_nodes(minted, by, replace=request.get("replace") is True)
        return done._asdict()

    async def _do_node_list(self, request: Request, by: By) -> Reply:
        now_ms, known = self._registry.now_ms(), self._programs()
        rows = []
        for node in self._registry.nodes():
            place = self._registry.place_of(node.address, now_ms)
            program = known.get(node.address, UNKNOWN)
            rows.append(
                {**node._asdict(), "site": place.site, "area": place.area, "program": program._asdict()}
            )
        return {"nodes": rows}

    async def _do_node_show(self, request: Request, by: By) -> Reply:
        if self._inspect is None:
            raise ControlError("no gateway is running: what a node is like now, only a running one can tell.")
        return self._inspect(_address(request), _may(request, "after_event", int) or 0)

    async def _do_node_remove(self, request: Request, by: By) -> Reply:
        await self._registry.remove_node(_address(request), by)
        return {}

    async def _do_site_add(self, request: Request, by: By) -> Reply:
        made = await self._registry.add_site(
            _need(request, "site", str), _may(request, "area", str), _may(request, "title", str), by
        )
        return made._asdict()

    async def _do_site_locate(self, request: Request, by: By) -> Reply:
        lat, lon = request.get("lat"), request.get("lon")
        position = None if lat is None and lon is None else positions.check(lat, lon)
        await self._registry.locate(_need(request, "site", str), position, by)
        return {} if position is None else position._asdict()

    async def _do_site_assign(self, request: Request, by: By) -> Reply:
        made = await self._registry.assign(
            _need(request, "site", str), _address(request), by, _may(request, "from_ms", int)
        )
        return made._asdict()

    async def _do_site_replace(self, request: Request, by: By) -> Reply:
        old = None if request.get("old") is None else _address({"node": request["old"]})
        site, forget = _need(request, "site", str), request.get("forget") is True
        return {"old": await self._registry.replace(site, _address(request), by, old, forget=forget)}

    async def _do_site_list(self, request: Request, by: By) -> Reply:
        return {
            "sites": [self._site(site) for site in self._registry.sites()],
            "assignments": [assignment._asdict() for assignment in self._registry.assignments()],
        }

    def _site(self, site: Site) -> Reply:
        position = self._registry.position_of(site.site)
        return site._asdict() | ({} if position is None else position._asdict())

    async def _do_command_send(self, request: Request, by: By) -> Reply:
        name = _need(request, "command", str)
        if name not in OPERATIONS:
            near = get_close_matches(name, OPERATIONS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise CommandError(f"command {name!r:.40} is unknown. Known: {', '.join(OPERATIONS)}.{hint}")
        address, ttl_s = _address(request), _need(request, "ttl_s", int)
        words = _may(request, "words", list) or []
        if not all(isinstance(word, str) for word in words):
            raise CommandError("every one of 'words' must be a text.")
        args: Args = _may(request, "args", int)
        if words or (OPERATIONS[name] in (codes.CALIBRATE, codes.SET_RADIO) and args is None):
            node = self._registry.node(address)
            args = args_of(OPERATIONS[name], words, "" if node is None else node.node_type)
        number = await self._commands.add(address, OPERATIONS[name], args, ttl_s, by)
        return {"id": number}

    async def _do_command_list(self, request: Request, by: By) -> Reply:
        return {"commands": [_command(report) for report in self._commands.reports(_may(request, "id", int))]}

    async def _do_settings_set(self, request: Request, by: By) -> Reply:
        changes = _need(request, "settings", dict)
        if any(not isinstance(value, int) or isinstance(value, bool) for value in changes.values()):
            raise CommandError("every setting is a whole number.")
        return {"version": await self._wishes.set(_address(request), changes, by)}

    async def _do_settings_list(self, request: Request, by: By) -> Reply:
        return {"settings": [report._asdict() for report in self._wishes.reports()]}

    async def _do_device_list(self, request: Request, by: By) -> Reply:
        if self._devices is None:
            raise ControlError("no gateway is running: how devices are, only a running one can tell.")
        return {"devices": self._devices()}

    async def _do_device_reset(self, request: Request, by: By) -> Reply:
        if self._reset_device is None:
            raise ControlError("no gateway is running: start it, and ask again.")
        if not by.why:
            raise CommandError("say why with --why: it is kept in the audit log.")
        return {"counter": await self._reset_device(_need(request, "device", str), by)}

    async def _do_device_write(self, request: Request, by: By) -> Reply:
        if self._write_device is None:
            raise ControlError("no gateway is running: start it, and ask again.")
        if not by.why:
            raise CommandError("say why with --why: it is kept in the audit log.")
        name, point = _need(request, "device", str), _need(request, "point", str)
        value, ttl_s = float(_need(request, "value", float)), float(_need(request, "ttl_s", float))
        result, detail = await self._write_device(name, point, value, ttl_s, by)
        return {"result": result, "detail": detail}

    async def _do_token_add(self, request: Request, by: By) -> Reply:
        name, role = _need(request, "token", str), _need(request, "role", str)
        return {"text": await self._tokens.add(name, role, _need(request, "days", int), by)}

    async def _do_token_list(self, request: Request, by: By) -> Reply:
        return {"tokens": [token._asdict() for token in self._tokens.list()]}

    async def _do_token_revoke(self, request: Request, by: By) -> Reply:
        await self._tokens.revoke(_need(request, "token", str), by)
        return {}


def _command(report: Report) -> Reply:
    names = {op: name for name, op in OPERATIONS.items()}
    return {**report._asdict(), "command": names.get(report.op, str(report.op))}


def _need(request: Request, key: str, kind: type) -> Any:
    value = _may(request, key, kind)
    if value is None:
        raise CommandError(f"'{key}' is missing.")
    return value


def _may(request: Request, key: str, kind: type) -> Any:
    value = request.get(key)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise CommandError(f"'{key}' = {value!r:.40} is not allowed. Allowed is {kind.__name__}.")
    return value


def _address(request: Request) -> int:
    address = node_file.parse_address(request.get("node"))
    if address is None:
        raise CommandError(
            f"node {request.get('node')!r:.40} is not an address. Allowed is 0001 to fffe, as it stands on "
            f"the label."
        )
    return address


async def answer(operations: Operations, request: Request, who: str) -> Reply:
    """`handle`, with an error of ours as a reply: {"error": text, "exit_code": number}."""
    try:
        return {"reply": await operations.handle(request, who)}
    except GatewayError as exc:
        return {"error": str(exc), "exit_code": exc.exit_code}
