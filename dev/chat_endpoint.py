"""One question, one answer, from any server that speaks OpenAI's chat completions: with patience for busy ones, none for wrong keys and addresses.

Only the standard library is used. Many threads may ask at once.
"""

import email.utils
import http.client
import json
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping

from nanochat.common import UserError, print0

ATTEMPTS = 6
FIRST_WAIT = 1.0  # seconds; each further pause is twice as long
LONGEST_WAIT = 300.0  # a server that asks for more than this is not going to help today
LONGEST_ANSWER = 1 << 24  # bytes


class BadAnswer(ValueError):
    """What came is not what was asked for. Asking again may help."""


class Stopped(Exception):
    """Another thread has ended the run while this one waited."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would make a GET of our POST, and carry the key to wherever it leads."""

    def redirect_request(self, *args):
        return None


class ChatEndpoint:
    def __init__(self, url: str, model: str, key: str = "", temperature: float = 1.0, timeout: float = 120.0):
        self.url, self.key = checked_url(url), checked_key(key)
        self.model, self.temperature, self.timeout = model, temperature, timeout
        self.stop = threading.Event()  # set: whoever waits gives up
        self.opener = urllib.request.build_opener(_NoRedirect)

    def ask(self, prompt: str) -> str:
        """What the model says to the prompt. BadAnswer if the server said nothing sensible, UserError if there is no use in going on."""
        wait = FIRST_WAIT
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return _content(self._post(prompt))
            except BadAnswer:
                raise
            except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
                reason = self._reason(error)
                pause = self._pause_after(error, reason, wait)
                if attempt == ATTEMPTS:
                    raise UserError(f"{self.url} did not answer in {ATTEMPTS} attempts; the last one failed with: {reason}. Check the server "
                                    "(or raise --timeout) and run the same command again: what has arrived is kept") from error  # fmt: skip
                if self.stop.is_set():
                    raise Stopped from error
                print0(f"{reason}; trying again in {pause:.0f} s ({attempt}/{ATTEMPTS})")
                if self.stop.wait(pause):
                    raise Stopped from error
                wait *= 2
        raise AssertionError("the loop above returns or raises")

    def _post(self, prompt: str) -> bytes:
        body = {"model": self.model, "messages": [{"role": "user", "content": prompt}], "temperature": self.temperature}
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = urllib.request.Request(f"{self.url}/chat/completions", json.dumps(body).encode(), headers)
        end = time.monotonic() + self.timeout
        with self.opener.open(request, timeout=self.timeout) as response:
            blocks, size = [], 0
            while block := response.read1(1 << 16):
                blocks.append(block)
                size += len(block)
                if size > LONGEST_ANSWER:
                    raise BadAnswer(f"the answer is longer than {LONGEST_ANSWER:,} bytes")
                if time.monotonic() > end:  # the opener's time-out is for each block, and a server may send one byte a second
                    raise TimeoutError("the answer did not end in time")
            if response.length:  # read1 takes the end of a cut connection for the end of the answer
                raise http.client.IncompleteRead(b"", response.length)
            return b"".join(blocks)

    def _pause_after(self, error: Exception, reason: str, wait: float) -> float:
        """How long to wait before the next attempt. What no patience will cure ends the run here."""
        status = error.code if isinstance(error, urllib.error.HTTPError) else None
        if status is None or status in (408, 425, 429) or status >= 500:
            pause = _asked_to_wait(error.headers if status else {}, wait)
            if pause > LONGEST_WAIT:
                raise UserError(f"{self.url} asks us to wait {pause:.0f} s: run the same command again later; what has arrived is kept") from error
            return pause
        remedies = {
            401: "set OPENAI_API_KEY to a key of this server", 403: "set OPENAI_API_KEY to a key that may use this model",
            404: "check --endpoint (it usually ends in /v1) and --model",
        }  # fmt: skip
        remedy = remedies.get(status, "check --model and --temperature" if status >= 400 else "give --endpoint the address that it points to")
        raise UserError(f"{self.url} refused the request for {self.model} with {reason}: {remedy}") from error

    def _reason(self, error: Exception) -> str:
        """One line. The server's own words, if it has any; never the key, which some servers send back."""
        if isinstance(error, urllib.error.HTTPError):
            said = _own_words(error)
            text = f"status {error.code}" + (f" ({said})" if said else "")
        else:
            cause = getattr(error, "reason", error)  # a URLError wraps what happened
            text = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]
        return text.replace(self.key, "***") if self.key else text


def checked_url(url: str) -> str:
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not (parts.username or parts.query or parts.fragment)
    except ValueError:  # a port that is no number
        usable = False
    if not usable or not url.isascii() or any(c.isspace() for c in url):
        raise UserError(f"--endpoint {url!r} is not the address of a server: it looks like http://host:port/v1, and the key goes into OPENAI_API_KEY")
    return url.rstrip("/").removesuffix("/chat/completions")


def checked_key(key: str) -> str:
    """A key that cannot stand in a header would end in a traceback that shows it."""
    if not re.fullmatch(r"[!-~]*", key.strip()):
        raise UserError("OPENAI_API_KEY has characters that no key has (blanks, line breaks, letters beyond ASCII): set it anew")
    return key.strip()


def _asked_to_wait(headers: Mapping[str, str], otherwise: float) -> float:
    """The seconds in Retry-After, which may also be a date."""
    wish = (headers.get("Retry-After") or "").strip()
    if wish.isascii() and wish.isdigit():
        return float(wish)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(wish).timestamp() - time.time())
    except (TypeError, ValueError):
        return otherwise


def _own_words(error: urllib.error.HTTPError) -> str:
    try:
        with error:
            said = json.loads(error.read(1 << 16))
        said = said.get("error", said.get("message", "")) if isinstance(said, dict) else ""
        said = said.get("message", "") if isinstance(said, dict) else said
    except (OSError, ValueError, RecursionError, http.client.HTTPException):
        return ""
    return " ".join(str(said).split())[:200]


def _content(body: bytes) -> str:
    """The words of the first choice."""
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise BadAnswer(f"not a chat completion: {body[:100]!r}") from error
    if not isinstance(content, str) or not content.strip():
        raise BadAnswer("the model said nothing")
    return content
