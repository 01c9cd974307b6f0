"""Connections to S3 that are kept, for GETs of many small objects: the standard library's, which ask least of the processor."""

from __future__ import annotations

import http.client
import ssl
import weakref
from collections.abc import Mapping
from urllib.parse import urlsplit

from sagemaker_launcher.errors import UnavailableError

_FAILURES = (OSError, http.client.HTTPException)


class Connections:
    """Connections to one place; several threads may use them at once.

    Args:
        endpoint: Scheme and host, and nothing after them that matters.
        context: The certificates that are trusted; None for the system's.
        connect_timeout_s: For making a connection.
        read_timeout_s: Between two parts of an answer.
    """

    def __init__(
        self, endpoint: str, context: ssl.SSLContext | None, connect_timeout_s: float, read_timeout_s: float
    ) -> None:
        self._place = urlsplit(endpoint)
        self._context = context
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._idle: list[http.client.HTTPConnection] = []
        weakref.finalize(self, _close_all, self._idle)

    def get(self, target: str, headers: Mapping[str, str]) -> Answer:
        """Sends a GET.

        Args:
            target: Path and query, encoded.
            headers: All headers, the host's among them.

        Raises:
            UnavailableError: There is no answer.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._new()
        try:
            if connection.sock is None:
                connection.connect()
                connection.sock.settimeout(self._read_timeout_s)  # type: ignore[attr-defined] # connect has made it
            connection.request("GET", target, headers=dict(headers))
            return Answer(connection, connection.getresponse(), self._idle)
        except _FAILURES as error:
            connection.close()
            raise UnavailableError(f"{self._place.netloc} does not answer: {error}") from error

    def _new(self) -> http.client.HTTPConnection:
        place, timeout_s = self._place.netloc, self._connect_timeout_s
        if self._place.scheme == "https":
            return http.client.HTTPSConnection(place, timeout=timeout_s, context=self._context)
        return http.client.HTTPConnection(place, timeout=timeout_s)


class Answer:
    """An answer whose body is read piece by piece. Whoever got it has to close it.

    Attributes:
        status: The HTTP status.
        headers: Its headers, by name in any case.
    """

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        idle: list[http.client.HTTPConnection],
    ) -> None:
        self.status = response.status
        self.headers = response.headers
        self._connection = connection
        self._response = response
        self._idle = idle

    def read(self, size: int) -> bytes:
        """At most so many bytes, and none at the end.

        Raises:
            UnavailableError: The body broke off.
        """
        try:
            data = self._response.read(size)
            if not data and self._response.length:
                raise http.client.IncompleteRead(data, self._response.length)
        except _FAILURES as error:
            self._connection.close()
            raise UnavailableError(f"the answer broke off: {error}") from error
        return data

    def close(self) -> None:
        """Keeps the connection for the next request when the answer was read to its end."""
        if self._response.isclosed() and not self._response.will_close:
            self._idle.append(self._connection)
        else:
            # A connection that the server is going to close has let go of its answer, which still holds the socket.
            self._response.close()
            self._connection.close()


def _close_all(connections: list[http.client.HTTPConnection]) -> None:
    for connection in connections:
        connection.close()
