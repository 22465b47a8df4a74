"""A client of the payment gateway over HTTP. Everything but a clear answer is reported as in doubt.

It never retries by itself. A call in doubt is repeated when the `due_at` of the payment's document has passed, under the same
idempotency key, so that a call that arrives twice has one effect.
"""

import asyncio
import json
from http import HTTPStatus

import aiohttp
import structlog
from pydantic import BaseModel, ValidationError

from services.payment.gateway import GatewayCall
from services.payment.messages import Answer, Verb

#: Bytes of a response body that are read; a valid one has about 25.
MAX_ANSWER_BYTES = 4096

#: Seconds an idle connection is kept. Shorter than the gateway keeps it, so that the gateway does not close it under a call.
KEEP_ALIVE_S = 30

_PATHS = {Verb.AUTHORIZE: "authorizations", Verb.VOID: "voids"}

#: The states that answer each verb. Anything else is in doubt: a void, above all, is done only when the gateway says "voided".
_ANSWERS_BY_VERB = {
    Verb.AUTHORIZE: {answer.value: answer for answer in (Answer.AUTHORIZED, Answer.DECLINED, Answer.PENDING, Answer.VOIDED)},
    Verb.VOID: {Answer.VOIDED.value: Answer.VOIDED},
}

log = structlog.get_logger()


class _Body(BaseModel):
    """The part of a response body that is read. The gateway may add fields."""

    state: str


class HttpGateway:
    """A client of the gateway at `url`, for the payments in `book`, the gateway's namespace for this mode.

    `limit`: the number of connections, and so of concurrent calls; further calls wait for a free one. `timeout_s`: the limit of
    a whole call, that wait included. It may be created without an event loop, is used by one, and is closed by `close`."""

    def __init__(self, url: str, book: str, *, limit: int = 512, timeout_s: float = 2.0) -> None:
        self._base = f"{url.rstrip('/')}/{book}"
        self._limit = limit
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def call(self, call: GatewayCall, injected: str | None = None) -> Answer:
        """The gateway's answer. A timeout, an error status, a lost or refused connection and an invalid body are IN_DOUBT."""
        try:
            return await self._ask(call, injected)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.info("gateway_in_doubt", order_id=call.order_id, verb=call.verb.value, error=type(error).__name__)
            return Answer.IN_DOUBT
        except asyncio.CancelledError:
            # A library can raise this although the task was not cancelled; then it is one more lost connection.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            log.info("gateway_in_doubt", order_id=call.order_id, verb=call.verb.value, error="CancelledError")
            return Answer.IN_DOUBT

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(self, call: GatewayCall, injected: str | None) -> Answer:
        headers = {"Idempotency-Key": call.order_id}
        if injected is not None:
            headers["X-Injected-Failure"] = injected
        amount = {"amount_cents": call.amount_cents, "currency": call.currency}
        body = json.dumps(amount).encode() if call.verb is Verb.AUTHORIZE else b""
        url = f"{self._base}/{_PATHS[call.verb]}"
        async with self._opened().post(url, data=body, headers=headers, allow_redirects=False) as response:
            answer = await _read(response)
            if response.status == HTTPStatus.OK:
                return _answer(call.verb, answer)
            # A 4xx means that this client is wrong. Repeating the call is safe, but an operator should see the error.
            log_line = log.error if HTTPStatus.BAD_REQUEST <= response.status < HTTPStatus.INTERNAL_SERVER_ERROR else log.info
            log_line("gateway_refused", order_id=call.order_id, verb=call.verb.value, status=response.status, answer=answer[:200])
            return Answer.IN_DOUBT

    def _opened(self) -> aiohttp.ClientSession:
        """The session, created at the first call because it belongs to the running event loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._limit, keepalive_timeout=KEEP_ALIVE_S),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
                auto_decompress=False,
            )
        return self._session


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, read up to MAX_ANSWER_BYTES. Raises ClientPayloadError when it is larger."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError(f"the response has more than {MAX_ANSWER_BYTES} bytes")
    return body


def _answer(verb: Verb, body: bytes) -> Answer:
    """The answer in {"state": ...}; an invalid body or an unknown state is IN_DOUBT."""
    try:
        return _ANSWERS_BY_VERB[verb][_Body.model_validate_json(body).state]
    except (ValidationError, KeyError):
        log.error("gateway_answer_not_understood", verb=verb.value, answer=body[:200])  # noqa: TRY400 - no bug here
        return Answer.IN_DOUBT
