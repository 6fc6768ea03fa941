"""HTTP that cannot even be read is answered in the shape of every other failure."""

from __future__ import annotations

import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from tenfold.server.errors import Failure

_MESSAGE = "this is not an HTTP request (is a proxy or a client speaking TLS to a plain port?)"


class Protocol(H11Protocol):
    """uvicorn's, except for what it says to requests that no application will see."""

    def send_400_response(self, msg: str) -> None:
        """Answers and closes the connection; uvicorn's own words would be plain text."""
        body = json.dumps(Failure(400, _MESSAGE, code="invalid_http").body()).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
