"""A hub for tests, on the loopback device. It answers as the real one does, and misbehaves as it is told.

    with LoopbackHub({"datasets/owner/repo": {"a.bin": b"..."}}) as hub:
        hub.faults["GET", "a.bin"] = iter([Fault(status=500), Fault(stop_after=10)])  # one for each request; then all goes well
        ...  # with HF_ENDPOINT=hub.endpoint
        assert [request.method for request in hub.asked("a.bin")] == ["HEAD", "GET", ...]

A model's repository has no prefix: {"owner/repo": {...}}. What never goes away is itertools.repeat(Fault(...)).
"""

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Fault(NamedTuple):
    """How one answer differs from the right one."""

    status: int | None = None  # this status and no body, but for the one below
    headers: Mapping[str, str] = NO_HEADERS  # added to the usual ones, or instead of them
    body: bytes | None = None  # these bytes in place of the file's
    stop_after: int | None = None  # having sent so many bytes: hang up, or, if there is a `hold`, wait for it and go on
    hold: threading.Event | None = None


class Request(NamedTuple):
    method: str
    revision: str
    file: str
    headers: dict[str, str]  # the names in lower case


class LoopbackHub(ThreadingHTTPServer):
    """A server in a thread of its own. `requests` has everything that was asked, in the order of arrival."""

    def __init__(self, repos: dict[str, dict[str, bytes]]):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repos = repos
        self.faults: dict[tuple[str, str], Iterator[Fault]] = {}
        self.requests: list[Request] = []
        self.endpoint = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self.shutdown()
        self.server_close()

    def asked(self, file: str, method: str | None = None) -> list[Request]:
        return [request for request in self.requests if request.file == file and method in (None, request.method)]


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *args) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(self.requestline.split()[1])  # self.path forgives two slashes at the beginning; the real hub does not
        address = re.fullmatch(r"/([^/].*)/resolve/([^/]+)/(.+)", path)
        repo, revision, file = address.groups() if address else ("", "", path)
        self.server.requests.append(Request(self.command, revision, file, {name.lower(): value for name, value in self.headers.items()}))
        fault = next(self.server.faults.get((self.command, file), iter(())), Fault())
        content = self.server.repos.get(repo, {}).get(file)
        if content is None:
            status, headers, body = 404, {"X-Error-Code": "EntryNotFound"}, b""
        else:
            headers = _about(content)
            current = self.headers.get("If-Range", headers["ETag"]) == headers["ETag"]
            status, more, body = _part(content if fault.body is None else fault.body, self.headers.get("Range") if current else None)
            headers |= more
        if fault.status:
            status, body = fault.status, fault.body or b""
        self._send(status, headers | {"Content-Length": str(len(body))} | fault.headers, body, fault)

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, fault: Fault) -> None:
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            first = len(body) if fault.stop_after is None else fault.stop_after
            self.wfile.write(body[:first])
            if fault.hold:
                fault.hold.wait()
                self.wfile.write(body[first:])
            elif first < len(body):
                self.close_connection = True
        except ConnectionError:  # the other side was killed
            self.close_connection = True


def _about(content: bytes) -> dict[str, str]:
    """What the hub says of a large file, with its answer and already with the redirect to where the file lies."""
    etag = f'"{hashlib.sha256(content).hexdigest()}"'
    return {"ETag": etag, "X-Linked-Etag": etag, "X-Linked-Size": str(len(content)), "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}


def _part(content: bytes, wish: str | None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body for a Range like "bytes=100-", the only kind that resuming needs."""
    if wish is None:
        return 200, {}, content
    start = int(re.fullmatch(r"bytes=(\d+)-", wish).group(1))
    if start >= len(content):
        return 416, {"Content-Range": f"bytes */{len(content)}"}, b""
    return 206, {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}, content[start:]
