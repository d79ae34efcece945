"""Files from a Hugging Face hub that are either right or not there.

huggingface_hub knows the addresses, the token and the session; its own downloads start from nothing when a process dies, so the bytes are
brought here, into a part file that the next attempt or the next process resumes. Around that: a lock, so that two processes never write one
file; patience with busy servers; and a check of every byte, after which the file gets its name.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from nanochat.common import UserError, print0, sync_directory

ATTEMPTS = 6
LONGEST_WAIT = 300.0  # seconds; a server that asks for more than this is not going to help today


class _Damaged(Exception):
    """The bytes that came are not the bytes that were announced."""


def hub_file(repo: str, name: str, directory: Path, repo_type: str = "dataset", first_wait: float = 1.0) -> Path:
    """Bring one file of a hub repository to directory/name and return its path. It appears there whole and verified, or not at all."""
    target = directory / name
    incoming = directory / ".incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    with locked(incoming / f"{name.replace('/', '_')}.lock"):
        if target.exists():  # another process has brought it while we waited
            return target
        wait = first_wait
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _fetch(repo, name, repo_type, incoming, target)
                return target
            except Exception as error:
                pause = _pause_after(error, repo, name, wait)
                if attempt == ATTEMPTS:
                    raise UserError(f"could not download {name} of {repo} in {ATTEMPTS} attempts; the last one failed with: {_brief(error)}. "
                                    "What has arrived is kept: run the same command again to resume") from error  # fmt: skip
                print0(f"{name}: {_brief(error)}; trying again in {pause:.0f} s ({attempt}/{ATTEMPTS})")
                time.sleep(pause)
                wait *= 2
    raise AssertionError("the loop above returns or raises")


def finish_downloads(directory: Path) -> None:
    """Remove what downloads leave behind when all of them have succeeded; but not what has come of files that somebody else wanted."""
    incoming = directory / ".incoming"
    if all((directory / part.name.rsplit(".", 2)[0]).exists() for part in incoming.glob("*.part")):
        shutil.rmtree(incoming, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that the operating system releases by itself when the process dies."""
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    with open(path, "rb") as file:  # to read only: the data set may be another user's
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two processes that ask at once must not see each other
        except BlockingIOError:
            return True
        return False


def _fetch(repo: str, name: str, repo_type: str, incoming: Path, target: Path) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url  # some tenths of a second to import; only downloads need it

    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    expected = get_hf_file_metadata(hf_hub_url(repo, name, repo_type=repo_type, endpoint=endpoint))
    if not expected.etag or not expected.commit_hash:
        raise UserError(f"what answers for {name} of {repo} is not a Hugging Face hub (no ETag, no X-Repo-Commit): check HF_ENDPOINT and your proxy")
    # The commit keeps both requests on one version of the file, also if somebody pushes a new one meanwhile. The etag does so over two runs.
    url = hf_hub_url(repo, name, repo_type=repo_type, revision=expected.commit_hash, endpoint=endpoint)
    part = incoming / re.sub(r"[^\w.-]", "_", f"{name}.{expected.etag}.part")
    _transfer(url, name, part, expected.size)
    try:
        _verify(part, expected.size, expected.etag)
    except _Damaged:
        part.unlink()  # there is nothing in it worth resuming
        raise
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)
    sync_directory(target.parent)


def _transfer(url: str, name: str, part: Path, size: int | None) -> None:
    """Bring the rest of a file: what an earlier attempt or an earlier process has left in `part` does not come again."""
    from huggingface_hub import constants, get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers, tqdm

    have = part.stat().st_size if part.exists() else 0
    if have == size:  # the process died between the last byte and the check
        return
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if size and 0 < have < size:
        headers["Range"] = f"bytes={have}-"
    # The session follows redirects, and takes the token off when one leads to another host.
    with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
        hf_raise_for_status(response)
        resumed = response.status_code == 206  # a server that knows no ranges answers 200 and sends everything
        progress = tqdm(desc=name, total=size, initial=have if resumed else 0, unit="B", unit_scale=True, disable=None)
        with progress, open(part, "ab" if resumed else "wb") as file:
            for block in response.iter_bytes():
                file.write(block)
                progress.update(len(block))
            file.flush()
            os.fsync(file.fileno())  # on disk before it gets its name


def _verify(path: Path, size: int | None, etag: str | None) -> None:
    """Compare with the size and the hash the hub announces: SHA-256 for large files, git's blob hash (SHA-1) for small ones."""
    actual = path.stat().st_size
    if size is not None and actual != size:
        raise _Damaged(f"it should have {size:,} bytes but has {actual:,}")
    if etag and re.fullmatch(r"[0-9a-f]{64}", etag):
        digest = hashlib.sha256()
    elif etag and re.fullmatch(r"[0-9a-f]{40}", etag):
        digest = hashlib.sha1(f"blob {actual}\0".encode())
    else:
        return
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != etag:
        raise _Damaged(f"its hash is {digest.hexdigest()[:12]}… but the hub announced {etag[:12]}…")


def _pause_after(error: Exception, repo: str, name: str, wait: float) -> float:
    """How long to wait before the next attempt. Errors that no patience will cure end the download here."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        raise UserError(f"the hub refused {name} of {repo} ({status}): the data set may be gated; accept its terms and set HF_TOKEN") from error
    if status == 404:
        raise UserError(f"the hub has no {name} in {repo} (404): check the name and HF_ENDPOINT") from error
    if type(error).__name__ == "OfflineModeIsEnabled":
        raise UserError(f"{name} of {repo} is not on disk and HF_HUB_OFFLINE is set: unset it to download") from error
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        raise error
    if status is None and isinstance(error, UserError | TypeError | AttributeError | AssertionError):
        raise error  # neither what we have said ourselves nor a bug of ours is a reason to try again
    pause = _asked_to_wait(getattr(getattr(error, "response", None), "headers", {}), wait)
    if pause > LONGEST_WAIT:
        raise UserError(f"the hub asks us to wait {pause:.0f} s before {name}: run the same command again later; what has arrived is kept") from error
    return pause


def _asked_to_wait(headers: Mapping[str, str], otherwise: float) -> float:
    """The seconds a busy server asks for: in the standard header, or in the hub's own, which says when a used-up quota is filled again."""
    from huggingface_hub.utils import parse_ratelimit_headers

    if headers.get("Retry-After", "").isdigit():
        return float(headers["Retry-After"])
    quota = parse_ratelimit_headers(headers)
    return float(quota.reset_in_seconds) if quota and quota.remaining == 0 else otherwise


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
