"""What another process answers is read up to a length: who sends without end is not waited for with open arms.

For the lanes of other doors and of observers, which may be anything that listens where one should.
"""

import aiohttp

#: Bytes of one answer: two hundred orders, the most that one asks for, are far less.
ANSWER_MAX_BYTES = 16 * 2**20


async def body_of(answer: aiohttp.ClientResponse) -> bytes:
    """The whole body. Raises aiohttp.ClientPayloadError if it is too long."""
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > ANSWER_MAX_BYTES:
            msg = f"longer than {ANSWER_MAX_BYTES} bytes"
            raise aiohttp.ClientPayloadError(msg)
    return bytes(body)
