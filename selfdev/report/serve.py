"""Serves the growing report of a run to browsers on this machine: `report RUN --watch`.

It only reads. It answers at 127.0.0.1 alone, and only requests that name that host, so that no page of another
site can read it under a name of its own (DNS rebinding).
"""

from __future__ import annotations

import errno
import sqlite3
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

from ...engine.errors import UsageError, visible
from ...engine.output.owned import DATABASE
from . import report_text

ADDRESS = "127.0.0.1"
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Watched:
    """A run whose page is made again where its database has changed, by one request at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = Lock()
        self._made: tuple[str, str] | None = None

    def version(self) -> str:
        """A text that differs after each write: sizes and times of the database and its log."""
        words = []
        for name in (DATABASE, f"{DATABASE}-wal"):
            try:
                facts = (self.folder / name).stat()
            except OSError:
                continue
            words.append(f"{facts.st_mtime_ns:x}-{facts.st_size:x}")
        return ".".join(words)

    def page(self) -> str:
        """The page of what is stored now. UsageError where the run is damaged."""
        with self._lock:
            version = self.version()
            if self._made is None or self._made[0] != version:
                self._made = version, report_text(self.folder, watch=version)
            return self._made[1]


class ReportServer(ThreadingHTTPServer):
    """The server of one run. Its threads end with it."""

    daemon_threads = True

    def __init__(
        self, folder: Path, port: int = 0, tell: Callable[[str], None] | None = None
    ) -> None:
        self.watched, self._tell, self._told = Watched(folder), tell, ""
        try:
            super().__init__((ADDRESS, port), PageHandler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise UsageError(
                f"--port {port}: {error.strerror}; name another, or leave it out"
            ) from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print what went wrong; nothing of a browser that has gone, as it may at any time."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def broken(self, error: Exception) -> None:
        """Tell whoever started it, once, why there is no page any more."""
        if self._tell and str(error) != self._told:
            self._told = str(error)
            self._tell(f"error: {error}; a page comes again once that is mended")

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/"

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a browser may call it."""
        return f"{ADDRESS}:{self.server_port}", f"localhost:{self.server_port}"


class PageHandler(BaseHTTPRequestHandler):
    """Answers one request: the page, its version, or a refusal."""

    timeout = 30

    @property
    def own(self) -> ReportServer:
        assert isinstance(self.server, ReportServer)
        return self.server

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.own.hosts:
            return self.say(HTTPStatus.FORBIDDEN, "this server answers at its own address only\n")
        if self.path == "/version":
            return self.say(HTTPStatus.OK, self.own.watched.version())
        if self.path != "/":
            return self.say(HTTPStatus.NOT_FOUND, "there is only one page, at /\n")
        try:
            page = self.own.watched.page()
        except (UsageError, OSError, sqlite3.Error) as error:
            self.own.broken(error)
            return self.say(HTTPStatus.SERVICE_UNAVAILABLE, f"{visible(str(error))}\n")
        self.say(HTTPStatus.OK, page, "text/html")

    do_HEAD = do_GET

    def say(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
        data = text.encode("utf-8", "backslashreplace")
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a page that asks every few seconds would fill the terminal."""
