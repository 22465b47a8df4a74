"""The client of the payment gateway over HTTP: one call, one answer, and every doubt called by its name.

The only file here that knows HTTP. It never tries again by itself: an answer in doubt is asked for again
by the durable wait of the payment's document, under the same idempotency key, which makes a twin harmless.
"""

import asyncio
import json
from http import HTTPStatus

import aiohttp
import structlog
from pydantic import BaseModel, ValidationError

from services.payment.gateway import GatewayCall
from services.payment.messages import Answer, Verb

#: Bytes of an answer that are read; a proper one has about 25.
MAX_ANSWER_BYTES = 4096

#: Seconds an idle connection is kept. Shorter than the gateway keeps it, so that it is never closed under a call.
KEEP_ALIVE_S = 30

_PATHS = {Verb.AUTHORIZE: "authorizations", Verb.VOID: "voids"}

#: The words that are an answer to each verb. Anything else is in doubt: a void, above all, is done when it says "voided".
_ANSWERS_BY_VERB = {
    Verb.AUTHORIZE: {answer.value: answer for answer in (Answer.AUTHORIZED, Answer.DECLINED, Answer.PENDING, Answer.VOIDED)},
    Verb.VOID: {Answer.VOIDED.value: Answer.VOIDED},
}

log = structlog.get_logger()


class _Body(BaseModel):
    """What of an answer's body matters; the gateway may add to it."""

    state: str


class HttpGateway:
    """Asks the gateway at `url` in `book`, its namespace for this mode.

    `limit`: connections, and so calls at once; one more waits for a free one. `timeout_s` bounds a call as a whole, that wait
    included. Made anywhere, used by one event loop, closed by `close`."""

    def __init__(self, url: str, book: str, *, limit: int = 512, timeout_s: float = 2.0) -> None:
        self._base = f"{url.rstrip('/')}/{book}"
        self._limit = limit
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, call: GatewayCall, injected: str | None = None) -> Answer:
        """The gateway's word. Everything that is none (time-out, 5xx, dropped or refused connection, garbage) is IN_DOUBT."""
        try:
            return await self._ask(call, injected)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.info("gateway_in_doubt", order_id=call.order_id, verb=call.verb.value, because=type(error).__name__)
            return Answer.IN_DOUBT
        except asyncio.CancelledError:
            # Libraries can raise it although nobody cancelled this task; then it is one more lost connection.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            log.info("gateway_in_doubt", order_id=call.order_id, verb=call.verb.value, because="foreign cancellation")
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
            # A 4xx says that this side is wrong. Nothing is safer than to ask again, but somebody should look.
            log_line = log.error if HTTPStatus.BAD_REQUEST <= response.status < HTTPStatus.INTERNAL_SERVER_ERROR else log.info
            log_line("gateway_refused", order_id=call.order_id, verb=call.verb.value, status=response.status, answer=answer[:200])
            return Answer.IN_DOUBT

    def _opened(self) -> aiohttp.ClientSession:
        """The session, made at the first call because it belongs to the running event loop."""
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
    """The body. Raises ClientPayloadError when it is larger than any proper answer."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return body


def _answer(verb: Verb, body: bytes) -> Answer:
    """The word in {"state": word}; whatever else it is, is in doubt."""
    try:
        return _ANSWERS_BY_VERB[verb][_Body.model_validate_json(body).state]
    except (ValidationError, KeyError):
        log.error("gateway_answer_not_understood", verb=verb.value, answer=body[:200])  # noqa: TRY400 - no bug of ours
        return Answer.IN_DOUBT
