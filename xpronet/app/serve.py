"""`xpronet serve`: the page and its answers over HTTP, by the standard library alone.

One worker computes; a bounded number waits for it, and whoever comes after them is told so. A page of another origin,
or under another name of this machine, gets nothing. docs/serve.md has the limits, and why there is no framework.
"""

import ipaddress
import json
import logging
import re
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from xpronet.app.answers import LARGEST, Answers, Request, request, without_paths
from xpronet.app.line import BUSY, WAITING, Line, Refused
from xpronet.app.pages import guarded
from xpronet.common.files import parse_json

logger = logging.getLogger(__name__)

CONNECTIONS = 96  # threads
BODY = LARGEST * 4 // 3 + 2**16  # bytes: the files in base64, and the rest
SILENCE, PATIENCE = 20, 60  # seconds without a byte, and for a whole request
TICK = 0.5  # seconds between two lines to whoever waits


class Gone(Exception):
    """Nobody waits for the answer any more."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, answers: Answers, *, waiting: int = WAITING):
        """OSError where the address is taken or none of this machine."""
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.answers, self.line, self.names = answers, Line(waiting), {"localhost", host.lower()}
        self.page, self.policy = guarded("serve.html")
        self.examples: bytes | None = None
        self._connections = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__((host, port), Handler)

    def server_close(self) -> None:
        super().server_close()
        self.line.close()

    @property
    def address(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def process_request(self, connection: socket.socket, address: Any) -> None:
        if not self._connections.acquire(blocking=False):
            line = json.dumps({"error": BUSY}).encode()
            connection.sendall(b"HTTP/1.0 503 Busy\r\nContent-Type: application/json\r\n\r\n" + line)
            self.shutdown_request(connection)
            return
        super().process_request(connection, address)

    def process_request_thread(self, connection: socket.socket, address: Any) -> None:
        try:
            super().process_request_thread(connection, address)
        finally:
            self._connections.release()

    def handle_error(self, connection: socket.socket, address: Any) -> None:
        if isinstance(sys.exception(), OSError):
            logger.debug("a connection has ended early", exc_info=True)
        else:
            logger.exception("a request has failed")

    def knows(self, host: str | None) -> bool:
        """Whether a name is of this machine by itself: a foreign name that was bent to its address is none of them."""
        name = (urlsplit(f"//{host}").hostname or "") if host else ""
        if name in self.names:
            return True
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return False


class Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "xpronet", ""
    timeout = SILENCE

    def do_GET(self) -> None:
        self._answer({"/": self._page, "/about": self._about, "/examples": self._examples})

    def do_POST(self) -> None:
        self._answer({"/report": self._report, "/nearest": self._nearest})

    def _answer(self, known: dict[str, Callable[[], None]]) -> None:
        length = self.headers["Content-Length"] or ""
        self.unread = int(length) if re.fullmatch(r"\d{1,18}", length) else None  # bytes; None: nobody knows
        try:
            self._require_own_page()
            answer = known.get(self.path.partition("?")[0])
            if answer is None:
                raise Refused(HTTPStatus.NOT_FOUND, "no such address here: the page is at /")
            answer()
        except Refused as refused:
            self._refuse(refused.status, str(refused))

    def _require_own_page(self) -> None:
        """Neither a page of another origin nor one whose name was bent to this address (DNS rebinding) may ask."""
        try:
            known, origin = self.server.knows(self.headers["Host"]), self.headers["Origin"]
            same = origin is None or urlsplit(origin).netloc == self.headers["Host"]
        except ValueError:
            known = same = False
        if not known:
            raise Refused(
                HTTPStatus.MISDIRECTED_REQUEST, "this server is called by its address, localhost or its --host only"
            )
        if not same or self.headers["Sec-Fetch-Site"] not in (None, "same-origin", "none"):
            raise Refused(HTTPStatus.FORBIDDEN, "only this server's own page may ask it")

    def _page(self) -> None:
        self._send(self.server.page, "text/html; charset=utf-8")

    def _about(self) -> None:
        self._send_json(self.server.answers.about())

    def _examples(self) -> None:
        server = self.server
        if server.examples is None:
            with server.line.place():
                found = self._compute(lambda: server.answers.examples())
            server.examples = json.dumps(found).encode()
        self._send(server.examples, "application/json")

    def _nearest(self) -> None:
        with self.server.line.place():
            asked = self._request()
            self._send_json(self._compute(lambda: self.server.answers.nearest(asked)))

    def _report(self) -> None:
        with self.server.line.place():
            asked = self._request()
            if asked.stream:
                self._stream(asked)
            else:
                self._send_json(self._compute(lambda: self.server.answers.report(asked)))

    def _request(self) -> Request:
        body = self._body()
        try:
            return request(parse_json(body.decode()))
        except UnicodeDecodeError:
            raise Refused(HTTPStatus.BAD_REQUEST, "the request is no text in UTF-8") from None
        except json.JSONDecodeError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"the request is no JSON: {error}") from None
        except ValueError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from None

    def _body(self) -> bytes:
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a request is application/json: docs/serve.md shows one")
        if self.unread is None:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "a request says its Content-Length")
        if self.unread > BODY:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"more than {LARGEST // 2**20} MB of images in one study: send fewer",
            )
        found = b"".join(self._pieces())
        if self.unread:
            raise Refused(HTTPStatus.BAD_REQUEST, "the request ended before its end")
        return found

    def _pieces(self) -> Iterator[bytes]:
        """What is unread, as it comes."""
        until = time.monotonic() + PATIENCE
        while self.unread and (piece := self._piece(self.unread)):
            self.unread -= len(piece)
            yield piece
            if time.monotonic() > until:
                raise Refused(HTTPStatus.REQUEST_TIMEOUT, f"the request took more than {PATIENCE} seconds")

    def _piece(self, length: int) -> bytes:
        try:
            return self.rfile.read1(min(length, 2**16))
        except TimeoutError:
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, f"no byte for {SILENCE} seconds") from None

    def _compute(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """On the worker's thread, when its turn has come."""
        done: SimpleQueue[dict[str, Any] | Refused] = SimpleQueue()
        self.server.line.submit(lambda: done.put(_tried(work)))
        found = done.get()
        if isinstance(found, Refused):
            raise found
        return found

    def _stream(self, asked: Request) -> None:
        """A line of JSON per event: how many wait before, the words so far, and last the report or an error."""
        events: SimpleQueue[dict[str, Any]] = SimpleQueue()
        gone = threading.Event()

        def watch(words: list[str]) -> None:
            if gone.is_set():
                raise Gone
            events.put({"words": words})

        def job() -> None:
            if gone.is_set():
                return
            found = _tried(lambda: self.server.answers.report(asked, watch))
            events.put({"error": str(found)} if isinstance(found, Refused) else {"report": found})

        before = self.server.line.submit(job)
        try:
            self._head(HTTPStatus.OK, "application/x-ndjson")
            event: dict[str, Any] = {}
            while not event.keys() & {"error", "report"}:
                try:
                    event = events.get(timeout=TICK)
                except Empty:
                    event = {"waiting": before()}
                self._require_client()
                self.wfile.write(json.dumps(event).encode() + b"\n")
        finally:
            gone.set()

    def _require_client(self) -> None:
        """ConnectionAbortedError where it has hung up."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        if readable and not self.connection.recv(1, socket.MSG_PEEK):
            raise ConnectionAbortedError

    def _refuse(self, status: HTTPStatus, line: str) -> None:
        if self.unread and self.unread <= 2 * BODY and status != HTTPStatus.REQUEST_TIMEOUT:
            with suppress(Refused):  # a connection that is closed on unread bytes is reset, and the answer lost
                for _ in self._pieces():
                    pass
        self._send_json({"error": line}, status)

    def _send_json(self, content: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(content, allow_nan=False).encode(), "application/json", status)

    def _send(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._head(status, kind, ("Content-Length", str(len(body))))
        self.wfile.write(body)

    def _head(self, status: HTTPStatus, kind: str, *more: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Security-Policy", self.server.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cache-Control", "no-store"),
            *more,
        ):
            self.send_header(name, value)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", "2")
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library finds wrong before any method is called."""
        self.close_connection = True
        self._send_json({"error": message or HTTPStatus(code).phrase}, HTTPStatus(code))

    def log_message(self, format: str, *given: Any) -> None:
        logger.debug(format, *given)


def _tried(work: Callable[[], dict[str, Any]]) -> dict[str, Any] | Refused:
    try:
        return work()
    except Gone:
        return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "nobody waits")
    except ValueError as error:
        return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, without_paths(" ".join(str(error).split())))
    except Exception:  # the server's boundary, which outlives any study: a traceback in its log, 500 for the page
        logger.exception("an answer has failed")
        return Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "the server has failed at this study; its terminal says why")


def serve(model: Path, host: str, port: int, say: Callable[[str], None]) -> None:
    """Until somebody ends it.

    Raises:
        ValueError: no model folder, or the address cannot be had.
    """
    try:
        server = Server(host, port, Answers(model))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{host}:{port}: {reason}: name another --port or --host") from None
    with server:
        if not _is_local(host):
            say(f"{host} can be reached by others: there is no password, and nothing is encrypted.")
        say(f"{server.address} (Ctrl+C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("ended")


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
