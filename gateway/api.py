"""The management API: what `tidegate gateway …` can ask, over HTTP, for who has a token.

    GET  /api/v1                       the operations that the token may ask for
    GET  /api/v1/node.list             an operation that changes nothing
    POST /api/v1/command.send          {"node": "0012", "command": "identify", "args": 30, "ttl_s": 60, "why": "…"}

An operation is the one of operations.py, with the same words, answers and audit log; `who` is the token's name.
A change has two headers more: Idempotency-Key, 16 to 64 characters of the client's choice, new for each change,
and Request-Time, Unix seconds. What comes a second time, or too long after its time, is not done.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl

from gateway import limits
from gateway.clock import TrustedClock
from gateway.errors import CommandError, GatewayError
from gateway.log import Logger
from gateway.operations import LOOKS, Operations
from gateway.rates import Rates
from gateway.tokens import ADMIN, OPERATOR, ROLES, VIEWER, Token, Tokens
from gateway.web import Page, Request, json_page

ROOT = "/api/v1"
# What an operator may change. All other changes are an admin's.
OPERATORS = frozenset(
    {
        "command.send",
        "settings.set",
        "device.write",
        "alarm.acknowledge",
        "alarm.silence",
        "quality.add",
        "campaign.pause",  # whoever sees that it goes wrong may stop it; to go on is the maintainer's
    }
)
# Asked on this machine only.
LOCAL = frozenset({"token.add", "token.list", "token.revoke"})
_KEY = re.compile(r"[A-Za-z0-9_.:-]{16,64}")
_INT_MAX, _DIGITS_MAX = (1 << 63) - 1, 20
_WELCOME = ("WWW-Authenticate", 'Bearer realm="tidegate"')


def role_for(operation: str) -> str:
    """The least role that may ask for it."""
    if operation in LOOKS:
        return VIEWER
    return OPERATOR if operation in OPERATORS else ADMIN


class Api:
    """`handle` is what the HTTP server calls."""

    def __init__(self, operations: Operations, tokens: Tokens, clock: TrustedClock, log: Logger) -> None:
        self._operations = operations
        self._tokens = tokens
        self._clock = clock
        self._log = log
        self._rates = Rates(limits.API_BURST, limits.API_PERIOD_S, clock.monotonic)
        self._told = Rates(1, limits.API_TOLD_S, clock.monotonic)
        self.counters = {"unauthorised": 0, "forbidden": 0, "replayed": 0, "too_often": 0, "changes": 0}

    async def handle(self, request: Request) -> Page:
        token = self._token(request)
        if token is None:
            return self._stranger(request)
        if wait_s := self._rates.wait_s(token.name):
            self.counters["too_often"] += 1
            error = f"too many requests: {limits.API_BURST} at once, then one every {limits.API_PERIOD_S} s"
            return json_page(429, {"error": error}, ("Retry-After", str(int(wait_s) + 1)))
        path, _, query = request.target.partition("?")
        known = [name for name in self._operations.names if name not in LOCAL]
        if path.rstrip("/") == ROOT:
            may = [name for name in known if _may(token, name)]
            return json_page(200, {"token": token.name, "role": token.role, "operations": may})
        operation = path.removeprefix(ROOT + "/")
        if operation not in known:
            return json_page(404, {"error": f"there is no {path!r:.80}", "operations": known})
        if not _may(token, operation):
            self.counters["forbidden"] += 1
            need = role_for(operation)
            return json_page(
                403, {"error": f"{operation} is for the role {need}; this token is a {token.role}'s"}
            )
        return await self._do(request, token, operation, query)

    def _token(self, request: Request) -> Token | None:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        return self._tokens.find(text.strip()) if scheme.lower() == "bearer" else None

    def _stranger(self, request: Request) -> Page:
        self.counters["unauthorised"] += 1
        if not self._told.wait_s(request.peer):  # a scanner must not fill the log
            self._log.warning("api_unauthorised", peer=request.peer, count=self.counters["unauthorised"])
        error = "wants a token: Authorization: Bearer tg_…; `tidegate gateway token add` makes one"
        return json_page(401, {"error": error}, _WELCOME)

    async def _do(self, request: Request, token: Token, operation: str, query: str) -> Page:
        is_look = operation in LOOKS
        if request.method not in (("GET", "HEAD", "POST") if is_look else ("POST",)):
            allow = "GET, HEAD, POST" if is_look else "POST"
            return json_page(405, {"error": f"allowed for {operation}: {allow}"}, ("Allow", allow))
        try:
            asked = _asked(request, query)
            if is_look:
                return json_page(
                    200, await self._operations.handle({**asked, "operation": operation}, _who(token))
                )
            return await self._change(request, token, {**asked, "operation": operation})
        except GatewayError as exc:
            return json_page(400 if exc.exit_code == CommandError.exit_code else 503, {"error": str(exc)})

    async def _change(self, request: Request, token: Token, asked: dict[str, Any]) -> Page:
        key = request.headers.get("idempotency-key", "")
        if not _KEY.fullmatch(key):
            raise CommandError(
                "a change wants the header Idempotency-Key: 16 to 64 of A-Z a-z 0-9 _ . : -, new for each "
                "change and the same when it is sent again, such as a UUID."
            )
        before = await self._tokens.begin(token, key, self._request_ms(request))
        if before is not None:
            self.counters["replayed"] += 1
            reply = None if before.reply is None else json.loads(before.reply)
            error = f"Idempotency-Key {key} came before; nothing was done again"
            return json_page(409, {"error": error, "received_ms": before.at_ms, "reply": reply})
        self.counters["changes"] += 1
        self._log.info("api", operation=asked["operation"], who=_who(token))
        try:
            page = json_page(200, await self._operations.handle(asked, _who(token)))
        except GatewayError as exc:
            page = json_page(400 if exc.exit_code == CommandError.exit_code else 503, {"error": str(exc)})
        if len(page.body) <= limits.API_REPLY_KEPT_BYTES_MAX:
            await self._tokens.ended(token, key, page.body.decode())
        return page

    def _request_ms(self, request: Request) -> int:
        text = request.headers.get("request-time", "")
        if not re.fullmatch(r"[0-9]{1,11}", text):
            raise CommandError("a change wants the header Request-Time: Unix seconds, such as 1790000000.")
        off_s = int(text) - self._clock.unix_ms() // 1000
        if self._clock.synchronised() and abs(off_s) > limits.API_SKEW_S:
            raise CommandError(
                f"Request-Time is {abs(off_s)} s {'ahead of' if off_s > 0 else 'behind'} the gateway's clock; "
                f"allowed are {limits.API_SKEW_S} s. A request that is old is not done: make it anew."
            )
        return int(text) * 1000


def _may(token: Token, operation: str) -> bool:
    return ROLES.index(token.role) >= ROLES.index(role_for(operation))


def _who(token: Token) -> str:
    return f"token {token.name}"


def _asked(request: Request, query: str) -> dict[str, Any]:
    """The words of a request: the body of a POST, the query of a GET."""
    if request.method != "POST":
        try:
            words: dict[str, Any] = dict(parse_qsl(query, max_num_fields=limits.API_WORDS_MAX))
        except ValueError as exc:
            raise CommandError(f"a query has at most {limits.API_WORDS_MAX} words.") from exc
        for name in ("id", "after_event"):
            if name in words and re.fullmatch(r"[0-9]{1,15}", words[name]):
                words[name] = int(words[name])
        return words
    try:
        asked = json.loads(request.body or b"{}", parse_int=_whole, parse_constant=_no_number)
        json.dumps(asked, ensure_ascii=False).encode()
    except UnicodeEncodeError as exc:  # "\ud800": half of a character, which no database takes
        raise CommandError("a text of the body has half of a character in it.") from exc
    except (ValueError, RecursionError) as exc:
        raise CommandError("the body is not JSON.") from exc
    if not isinstance(asked, dict):
        raise CommandError("the body is not a JSON object.")
    return asked


def _whole(digits: str) -> int:
    """Numbers beyond what the database holds are none of ours."""
    number = int(digits) if len(digits) <= _DIGITS_MAX else _INT_MAX + 1
    if abs(number) > _INT_MAX:
        raise CommandError(f"{digits:.40} is not allowed: a number has at most 63 bits.")
    return number


def _no_number(name: str) -> Any:
    """NaN and Infinity, which Python's JSON takes."""
    raise CommandError(f"{name} is no number of JSON.")
