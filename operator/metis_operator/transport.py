"""The wire below the Kubernetes client: aiohttp's, which kopf brings along anyhow.

A call costs a third of the CPU that the client's own asynchronous transport takes, and calls are
most of what the operator does when it makes or looks at many instances.
"""

from __future__ import annotations

import ssl
from typing import Any

import aiohttp
import httpx2

# The API server would compress each page of a list, which takes longer than it saves so near to it.
UNCOMPRESSED = {"Accept-Encoding": "identity"}
# Of an apply the API server would parse the body once more to warn of fields that it does not know,
# in headers that nobody reads: it refuses those anyway.
_APPLY = "application/apply-patch+yaml"
_UNWARNED = "&fieldValidation=Ignore"
# Connections at a time; calls beyond wait for one.
_CONNECTIONS = 32


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """Carries httpx2's requests. ``verify`` is what the server's certificate is checked by.

    To be made within a running event loop.
    """

    def __init__(self, verify: ssl.SSLContext | bool) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=verify, limit=_CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Content-Type"),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send ``request``; the answer is read whole.

        Raises:
            httpx2.TransportError: no answer came.
        """
        limits: dict[str, Any] = request.extensions.get("timeout", {})
        timeout = aiohttp.ClientTimeout(
            sock_connect=limits.get("connect"), sock_read=limits.get("read")
        )
        headers = httpx2.Headers(request.headers)
        headers.update(UNCOMPRESSED)
        url = str(request.url)
        if headers.get("Content-Type") == _APPLY:
            url += _UNWARNED
        try:
            async with self._session.request(
                request.method,
                url,
                headers=headers.multi_items(),
                data=await request.aread() or None,
                timeout=timeout,
                allow_redirects=False,
            ) as answer:
                body = await answer.read()
                return httpx2.Response(
                    answer.status, headers=answer.raw_headers, content=body, request=request
                )
        except TimeoutError as error:
            raise httpx2.ReadTimeout(str(error) or "no answer in time", request=request) from error
        except (aiohttp.ClientError, OSError) as error:
            message = str(error) or type(error).__name__
            raise httpx2.ConnectError(message, request=request) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()
