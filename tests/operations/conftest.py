"""A webhook on this machine that answers as a test asks it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Hook:
    """What was posted, and what is answered: one status a request, the last one for ever after."""

    statuses: list[int] = field(default_factory=lambda: [200])
    hang_s: float = 0.0
    posted: list[dict[str, Any]] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    url: str = ""

    def next_status(self) -> int:
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.methods.append("POST")
            made.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            time.sleep(made.hang_s)
            self._answer(made.next_status())

        def do_GET(self) -> None:
            made.methods.append("GET")
            self._answer(200)

        def _answer(self, status: int) -> None:
            try:
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", f"{made.url}/elsewhere")
                self.end_headers()
            except BrokenPipeError:
                pass  # the client of a hanging answer has gone, as it should

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}/T0/SECRET"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()
