"""Files from a Hugging Face hub that are either right or not there.

huggingface_hub does the transfer (resume, HF_ENDPOINT, HF_TOKEN, progress bars). Around it: a lock, so that two processes never write
one file; patience with busy servers; and a check of every byte, after which the file gets its name.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
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
    """Remove what downloads leave behind when all of them have succeeded."""
    shutil.rmtree(directory / ".incoming", ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that the operating system releases by itself when the process dies."""
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _fetch(repo: str, name: str, repo_type: str, incoming: Path, target: Path) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url  # half a second to import; only downloads need it

    endpoint = os.environ.get("HF_ENDPOINT") or None
    url = hf_hub_url(repo, name, repo_type=repo_type, endpoint=endpoint)
    expected = get_hf_file_metadata(url)
    # The commit keeps both requests on one version of the file, also if somebody pushes a new one meanwhile.
    path = Path(hf_hub_download(repo, name, repo_type=repo_type, revision=expected.commit_hash, local_dir=incoming, endpoint=endpoint))
    try:
        _verify(path, expected.size, expected.etag)
    except _Damaged:
        path.unlink()
        shutil.rmtree(incoming / ".cache", ignore_errors=True)  # it would tell the next attempt that the damaged file is fine
        raise
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)
    sync_directory(target.parent)


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
    if isinstance(error, OSError) and error.errno in (13, 28, 30):  # permission, disk full, read-only
        raise error
    if status is None and isinstance(error, TypeError | AttributeError | AssertionError):
        raise error  # a bug of ours is no reason to try again
    asked = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "")
    pause = float(asked) if asked.isdigit() else wait
    if pause > LONGEST_WAIT:
        raise UserError(f"the hub asks us to wait {pause:.0f} s before {name}: run the same command again later; what has arrived is kept") from error
    return pause


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
