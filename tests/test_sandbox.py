"""What a program cannot do to us. Every attack runs as the user of the tests and, if that is root, as nobody; behind all walls and behind some, so
that each wall is seen to hold by itself. Where the machine lacks one, the level has to say so. No attack would hurt if the sandbox failed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest

from nanochat import execution
from nanochat.execution import PARTS, ExecutionResult, check_program, execute_code

ROOT = Path(__file__).parent.parent
NOBODY = 65534
LINUX = sys.platform == "linux"
FULL, NO_NAMESPACES, NAMESPACES_ONLY, NOTHING = (), ("namespaces",), ("landlock", "seccomp"), PARTS

# A process that imports the sandbox and does what it is told: {function, arguments, without}. It carries a secret in its environment.
WORKER = """
import json, resource, sys
import importlib.util
spec = importlib.util.spec_from_file_location("execution", sys.argv[1])
execution = importlib.util.module_from_spec(spec)
spec.loader.exec_module(execution)
order = json.load(sys.stdin)
missing = order["known"]
if missing is None:
    missing = {**execution._missing_parts(0), **{part: "left out by the test" for part in order["without"]}}
    outcome = execution._launch("print(1)", [part for part in execution.PARTS if part not in missing], 20, 256 << 20)
    if outcome.report[:2] == ["refused", "processes"]:  # without namespaces, nobody may be unable to read root's Python
        missing["processes"] = "found by the test"
execution._missing_parts = lambda user: missing
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result = getattr(execution, order["function"])(*order["positional"], **order["named"])
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(json.dumps([result, grown, missing]))
"""


class Sandbox:
    """The functions of nanochat/execution.py as another process calls them: another user perhaps, and perhaps behind fewer walls."""

    KNOWN: ClassVar[dict] = {}  # what is missing is found out once for each kind, not in every test

    def __init__(self, python: str, folder: Path, user: int | None, without: tuple[str, ...]):
        self.python, self.folder, self.user, self.without = python, folder, user, without
        self.grown, self.known = 0, self.KNOWN.get((python, user, without))

    def start(self, **kwargs) -> subprocess.Popen:
        identity = {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        command = [self.python, "-I", str(self.folder / "worker.py"), str(self.folder / "execution.py")]
        environment = {"LANDLADY": "parent's secret", "HOME": str(self.folder), "PATH": os.environ["PATH"]}
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": environment, "text": True, "cwd": "/"}
        return subprocess.Popen(command, **{**options, **identity, **kwargs})

    def order(self, function: str, *positional, **named) -> str:
        return json.dumps({"function": function, "positional": positional, "named": named, "without": self.without, "known": self.known})

    def __call__(self, code: str, function: str = "execute_code", *more, cwd: str = "/", **named) -> ExecutionResult:
        with self.start(cwd=cwd) as worker:
            answer, _ = worker.communicate(self.order(function, textwrap.dedent(code), *more, **named), timeout=120)
        assert worker.returncode == 0
        fields, self.grown, self.known = json.loads(answer)
        self.KNOWN[self.python, self.user, self.without] = self.known
        result = ExecutionResult(*fields)
        missing = missing_of(result.level)
        assert set(self.without) <= missing or result.level == "limits-only"
        return result


def missing_of(level: str) -> set[str]:
    return set() if level == "full" else set(PARTS) if level == "limits-only" else set(level.removeprefix("no-").split("+"))


def python_for(user: int | None) -> str | None:
    """A Python that this user can start; the tests' own may lie in a folder of root's."""
    identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3", *(shutil.which(f"python3.{minor}") for minor in (13, 12, 11, 10))):
        try:
            probe = [path, "-I", "-c", "import ctypes, sys; sys.exit(sys.version_info < (3, 10))"]
            if path and subprocess.run(probe, cwd="/", capture_output=True, **identity).returncode == 0:
                return path
        except OSError:
            continue
    return None


@pytest.fixture(scope="module")
def shop():
    """A folder that everybody can read, outside of pytest's own, which only its user can."""
    folder = Path(tempfile.mkdtemp(prefix="shop-"))
    folder.chmod(0o755)
    for name in ("execution.py", "sandbox_runner.py"):
        shutil.copy(ROOT / "nanochat" / name, folder)
    (folder / "worker.py").write_text(WORKER)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["me", "nobody"], scope="module")
def user(request) -> int | None:
    if request.param == "me":
        return None
    if not LINUX or os.geteuid() != 0:
        pytest.skip("only root can become somebody else; the other half of these tests runs as an ordinary user already")
    return NOBODY


@pytest.fixture(scope="module")
def python(user) -> str:
    return python_for(user) or pytest.skip("no Python on this machine that nobody can read")


@pytest.fixture(params=[FULL, NO_NAMESPACES, NAMESPACES_ONLY], ids=["full", "no-namespaces", "namespaces-only"])
def sandbox(request, shop, user, python) -> Sandbox:
    return Sandbox(python, shop, user, request.param)


@pytest.fixture
def full(shop, user, python) -> Sandbox:
    return Sandbox(python, shop, user, FULL)


@pytest.fixture
def open_house():
    """A folder where everybody may do everything, as far as the file system's own permissions go."""
    folder = Path(tempfile.mkdtemp(prefix="open-house-"))
    folder.chmod(0o777)
    (folder / "file").write_text("mine")
    (folder / "file").chmod(0o666)
    yield folder
    shutil.rmtree(folder)


def somewhere(level: str, *walls: str) -> bool:
    """Whether one of the walls stands that stop an attack. If none does, the level has said so."""
    return bool(set(walls) - missing_of(level))


# --- levels ----------------------------------------------------------------------------------------------------------


def test_the_level_is_what_the_machine_allows(full):
    result = full("print('hello')")
    assert (result.success, result.stdout, result.error) == (True, "hello\n", None)
    assert result.level in ("full", "limits-only") or missing_of(result.level) < set(PARTS)
    if not LINUX:
        assert result.level == "limits-only"
    assert full("print('hello')", sandbox="strict").success == (result.level == "full")


@pytest.mark.parametrize("without", [NO_NAMESPACES, ("landlock",), ("seccomp",), NAMESPACES_ONLY, NOTHING], ids="+".join)
def test_every_level_runs_programs_and_says_which_it_is(shop, user, python, without):
    result = Sandbox(python, shop, user, without)("import os\nopen('own', 'w').write('x')\nprint(os.listdir(), 6 * 7)", timeout=10)
    assert result.success, result
    assert "own" in result.stdout and "42" in result.stdout
    assert result.level == "limits-only" if without == NOTHING else set(without) <= missing_of(result.level)


def test_root_becomes_nobody(shop):
    """With namespaces always; without them if nobody can read Python, and otherwise the level says that no limit on processes binds."""
    if not LINUX or os.geteuid() != 0:
        pytest.skip("not root")
    code = f"import os\nprint(os.getresuid(), os.getgroups())\n{textwrap.dedent(BOMB)}"
    for without in (FULL, NO_NAMESPACES):
        result = Sandbox(python_for(NOBODY) or sys.executable, shop, None, without)(code, timeout=10)
        if python_for(NOBODY) or "namespaces" not in missing_of(result.level):
            assert "processes" not in missing_of(result.level), result
            identity, made = result.stdout.splitlines()
            assert identity == f"({NOBODY}, {NOBODY}, {NOBODY}) []" and 0 < int(made) < 64, result
        else:
            assert "processes" in missing_of(result.level)


def test_strict_refuses_when_a_part_is_missing(monkeypatch):
    monkeypatch.setattr(execution, "_missing_parts", lambda user: {"landlock": "switched off", "seccomp": "never heard of it"})
    result = execute_code("print(1)", sandbox="strict")
    assert not result.success and result.stdout == "" and result.level == "no-landlock+seccomp"
    assert "landlock (switched off); seccomp (never heard of it)" in result.error
    result = execute_code("print(1)")
    assert result.success and result.level == "no-landlock+seccomp"
    monkeypatch.setattr(execution, "_missing_parts", lambda user: {})
    monkeypatch.setattr(execution, "_launch", lambda *_: execution._Outcome("1\n", "", ["ended", "0"]))
    assert execute_code("print(1)", sandbox="strict").success


def test_the_probe_leaves_out_what_is_refused_and_keeps_the_reason(monkeypatch):
    def launch(code, parts, *_):
        for part in ("namespaces", "seccomp"):
            if part in parts:
                return execution._Outcome("", "", ["refused", part, "unshare:", "Operation", "not", "permitted"])
        return execution._Outcome("here\n", "", ["ended", "0"])

    monkeypatch.setattr(execution, "_launch", launch)
    monkeypatch.setattr(sys, "platform", "linux")
    assert execution._missing_parts.__wrapped__(0) == dict.fromkeys(("namespaces", "seccomp"), "unshare: Operation not permitted")
    monkeypatch.setattr(execution, "_launch", lambda *_: execution._Outcome("", "no libpython", ["ended", "127"]))
    assert list(execution._missing_parts.__wrapped__(0)) == list(PARTS)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert execution._missing_parts.__wrapped__(0) == dict.fromkeys(PARTS, "not Linux")


def test_wrong_arguments():
    for named in ({"sandbox": "off"}, {"timeout": 0}, {"timeout": float("nan")}, {"timeout": float("inf")}, {"maximum_memory_bytes": 1000}):
        with pytest.raises(ValueError, match=next(iter(named))):
            execute_code("print(1)", **named)


# --- files and secrets -----------------------------------------------------------------------------------------------


def test_it_writes_nothing_outside_of_its_folder(sandbox, open_house):
    result = sandbox(f"""
        import os, tempfile
        house, done = {str(open_house)!r}, []
        def attempt(function, *arguments):
            try:
                function(*arguments)
                done.append(function.__name__)
            except OSError:
                pass
        def write(path): open(path, "w").write("changed")
        def append(path): open(path, "a").write("changed")
        def move_in(path): write("mine"); os.rename("mine", path)
        def link_out(path): os.symlink(path, "link"); open("link", "w").write("changed")
        for attack in (write, append, os.remove, os.rmdir, move_in, link_out): attempt(attack, house + "/file")
        for attack in (write, os.mkdir, os.mkfifo): attempt(attack, house + "/new")
        attempt(os.truncate, house + "/file", 0)
        attempt(os.rename, house + "/file", house + "/other")
        attempt(os.symlink, "/", house + "/link")
        for folder in ("/", "/usr", "/etc", "/bin", "/dev", "/dev/shm", "/var/tmp", "/home", "/root", "/opt", "/sys", os.path.dirname(os.__file__)):
            attempt(write, folder + "/nanochat-was-here")
        print(done)
        write("own"); os.mkdir("folder"); os.rename("own", "folder/own"); tempfile.TemporaryFile().write(b"x")
        print(open("folder/own").read())
    """)
    if somewhere(result.level, "namespaces", "landlock"):
        assert [path.name for path in open_house.iterdir()] == ["file"] and (open_house / "file").read_text() == "mine"
        outside = result.stdout.splitlines()[0]
        if "landlock" not in missing_of(result.level):
            assert outside == "[]", result
        assert result.stdout.splitlines()[1:] == ["changed"] and result.success, result
    for folder in ("/", "/usr", "/etc", "/dev/shm", "/var/tmp", "/root"):
        assert not os.path.exists(folder + "/nanochat-was-here"), folder


def test_it_does_not_see_the_parents_environment_or_anybodys_files(sandbox, shop, user):
    secret = shop / f"diary-{user}"
    secret.write_text("dear diary")
    secret.chmod(0o644)
    with sandbox.start() as worker:
        code = f"""
            import glob, os
            seen = b""
            paths = [{str(secret)!r}, "/etc/passwd", "/etc/shadow", os.path.expanduser("~root/.bashrc"), {str(ROOT / "pyproject.toml")!r}]
            try: everybody = os.listdir("/proc")
            except OSError: everybody = []
            for pid in ("self", "1", str(os.getppid()), "{worker.pid}", "{os.getpid()}", *filter(str.isdigit, everybody)):
                paths += [f"/proc/{{pid}}/{{name}}" for name in ("environ", "cmdline", "maps", "root/etc/passwd", "cwd/etc/passwd")]
            for path in paths:
                try: seen += open(path, "rb").read()
                except OSError: pass
            print(sorted(os.environ), len(seen), b"secret" in seen, b"diary" in seen, b"root:" in seen, b"nanochat" in seen)
        """
        answer, _ = worker.communicate(sandbox.order("execute_code", textwrap.dedent(code)), timeout=60)
    result = ExecutionResult(*json.loads(answer)[0])
    assert result.success, result
    if somewhere(result.level, "namespaces", "landlock"):
        assert result.stdout == "['HOME', 'LANG', 'MALLOC_ARENA_MAX', 'PATH', 'TMPDIR'] 0 False False False False\n"
    else:
        assert result.level == "limits-only" or {"namespaces", "landlock"} <= missing_of(result.level)


def test_it_inherits_no_files(full):
    with open(os.devnull) as file:
        os.set_inheritable(file.fileno(), True)
        result = full("""
            import os
            def is_open(number):
                try: os.fstat(number); return True
                except OSError: return False
            print([number for number in range(64) if is_open(number)])
        """)
    assert result.stdout == "[0, 1, 2]\n"


def test_it_signals_nobody_outside(sandbox):
    result = sandbox(f"""
        import os
        reached = []
        for pid in ({os.getpid()}, os.getppid(), -1):
            try:
                os.kill(pid, 0)
                reached.append(pid)
            except OSError: pass
        print(reached == [] or reached)
    """)
    if "namespaces" in missing_of(result.level):  # Landlock knows signals since its ABI 6, in Linux 6.12
        assert result.stdout == "True\n" or result.level.startswith("no-namespaces") or result.level == "limits-only"
    else:  # its parent is then the namespace's first process, on which signals from inside have no effect
        assert result.success and str(os.getpid()) not in result.stdout


# --- network ---------------------------------------------------------------------------------------------------------


def test_it_reaches_nobody_by_tcp_udp_or_unix_sockets(sandbox):
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_UNIX) as unix:
        abstract = f"\0nanochat-{os.getpid()}-{time.time()}" if LINUX else None
        for server, address in ((tcp, ("127.0.0.1", 0)), (udp, ("127.0.0.1", 0)), (unix, abstract)):
            if address:
                server.bind(address)
                server.settimeout(0.2)
        tcp.listen(), unix.listen()
        result = sandbox(f"""
            import socket
            reached = []
            def attempt(name, family, kind, address):
                try:
                    with socket.socket(family, kind) as s:
                        s.settimeout(0.3)
                        s.connect(address)
                        s.send(b"hello")
                        reached.append(name)
                except OSError as error: pass
            for host in ("127.0.0.1", "192.0.2.1", "1.1.1.1"):
                attempt("tcp " + host, socket.AF_INET, socket.SOCK_STREAM, (host, {tcp.getsockname()[1]} if host == "127.0.0.1" else 80))
                attempt("udp " + host, socket.AF_INET, socket.SOCK_DGRAM, (host, {udp.getsockname()[1]} if host == "127.0.0.1" else 53))
            attempt("tcp6", socket.AF_INET6, socket.SOCK_STREAM, ("::1", {tcp.getsockname()[1]}))
            attempt("udp6", socket.AF_INET6, socket.SOCK_DGRAM, ("2001:db8::1", 53))
            attempt("unix", socket.AF_UNIX, socket.SOCK_STREAM, {unix.getsockname()!r})
            print(reached)
        """)
        if somewhere(result.level, "namespaces", "seccomp"):
            assert result.stdout == "[]\n" and result.success, result
            for server in (tcp, unix):
                with pytest.raises(TimeoutError):
                    server.accept()
            with pytest.raises(TimeoutError):
                udp.recv(10)


def test_a_pair_of_sockets_is_no_network(full):
    assert full("import asyncio\nasync def main(): await asyncio.sleep(0.01)\nasyncio.run(main())\nprint(1)").stdout == "1\n"


# --- processes and time ----------------------------------------------------------------------------------------------

BOMB = """
    import os, time
    made = 0
    for _ in range(200):
        try:
            if os.fork() == 0:
                time.sleep(3)
                os._exit(0)
            made += 1
        except OSError: break
    print(made, flush=True)
"""


def test_a_fork_bomb_stops_early(sandbox):
    result = sandbox(BOMB, timeout=10)
    if "processes" in missing_of(result.level):  # nothing binds root there but somebody who counts
        assert result.error == "too many processes" or int(result.stdout) < 100, result
    else:
        assert 0 < int(result.stdout) < 64, result


def test_a_bomb_of_threads_stops_early(full):
    result = full("""
        import threading, time
        made = 0
        try:
            for made in range(200):
                threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
        finally: print(made)
    """)
    assert not result.success and 0 < int(result.stdout) < 64, result


def test_one_bomb_leaves_the_others_their_processes(full):
    with ThreadPoolExecutor(3) as pool:
        bombs = [pool.submit(full, BOMB, timeout=10) for _ in range(2)]
        peaceful = Sandbox(full.python, full.folder, full.user, FULL)("import subprocess\nprint(subprocess.run(['true']).returncode)", timeout=10)
    assert all(bomb.result().stdout for bomb in bombs)
    if not missing_of(peaceful.level):
        assert peaceful.stdout == "0\n", peaceful


def alive(token: str) -> list[int]:
    """Processes that carry the token in their command line. Root sees into namespaces, so it would see them."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and token.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def leave_a_child(token: str, then: str) -> str:
    """A program that leaves a daemon behind: a session of its own, forked twice, all signals ignored. It would end by itself after 20 seconds."""
    daemon = f"import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 3, 13, 15)]; time.sleep(20) # {token}"
    return f"""
        import os, subprocess, sys, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.setpgid(0, 0)
                os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", {daemon!r}])
            os._exit(0)
        time.sleep(0.5)
        {then}
    """


@pytest.mark.skipif(not LINUX, reason="elsewhere only the group is killed, and the level is limits-only")
@pytest.mark.parametrize("then", ["print('bye')", "time.sleep(20)", "os._exit(0)", "os.abort()"])
def test_no_child_outlives_it(sandbox, then):
    token = f"orphan-{os.getpid()}-{time.time()}"
    seen, over = [], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            seen.extend(alive(token))

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = sandbox(leave_a_child(token, then), timeout=1.5)
    left = alive(token)
    over.set()
    watcher.join()
    assert seen, "the daemon never ran, or cannot be seen: this test shows nothing"
    assert left == []
    assert result.timeout == ("sleep" in then) and result.success == (then in ("print('bye')", "os._exit(0)")), result


@pytest.mark.skipif(not LINUX, reason="only Linux tells a process of its parent's death")
def test_it_dies_with_whoever_called(full, open_house):
    token = f"orphan-{os.getpid()}-{time.time()}"
    with full.start(env={"TMPDIR": str(open_house)}) as worker:  # who is killed cannot tidy up
        worker.stdin.write(full.order("execute_code", textwrap.dedent(leave_a_child(token, "time.sleep(20)")), timeout=15))
        worker.stdin.close()
        for _ in range(500):
            if alive(token):
                break
            time.sleep(0.02)
        assert alive(token)
        worker.kill()
    for _ in range(100):
        if not alive(token):
            return
        time.sleep(0.02)
    raise AssertionError("its caller was killed, and it lives")


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass", "import time; time.sleep(30)", "import os, time; os.close(1); os.close(2); time.sleep(30)",
        "import signal, time\nfor n in range(1, 32):\n    if n not in (9, 19): signal.signal(n, signal.SIG_IGN)\ntime.sleep(30)",
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", "9 ** 9 ** 9", "import threading; threading.Event().wait(30)",
    ],
)  # fmt: skip
def test_a_hang_ends(sandbox, code):
    begun = time.monotonic()
    result = sandbox(code, timeout=0.5)
    assert result.timeout and not result.success and result.error == "not done after 0.5 seconds", result
    assert time.monotonic() - begun < 15  # about 1 on a quiet machine


# --- memory, disk, output --------------------------------------------------------------------------------------------

STEPS = "\nprint('all of it')"


@pytest.mark.parametrize(
    "code",
    [
        "kept = []\nfor _ in range(64): kept.append(bytearray(b'x') * (16 << 20))",  # 1 GiB
        "import mmap\nkept = [mmap.mmap(-1, 1 << 20) for _ in range(1024)]\nfor m in kept: m.write(b'x' * (1 << 20))",
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.malloc.restype = ctypes.c_void_p\nfor _ in range(64):\n"
        "    if not (p := libc.malloc(ctypes.c_size_t(16 << 20))): raise MemoryError\n    ctypes.memset(ctypes.c_void_p(p), 1, 16 << 20)",
    ],
    ids=["python", "mmap", "malloc"],
)  # fmt: skip
def test_a_gibibyte_of_memory_is_refused(sandbox, code):
    result = sandbox(code + STEPS, timeout=20)
    assert not result.success and "all of it" not in result.stdout, result
    assert result.memory_exceeded or "Cannot allocate memory" in result.error, result


def test_a_gibibyte_is_not_to_be_had_by_sharing_the_work(sandbox):
    """Eight processes, each within the limit for one."""
    result = sandbox("""
        import os, time
        for _ in range(8):
            if os.fork() == 0:
                kept = [bytearray(b'x') * (16 << 20) for _ in range(8)]
                time.sleep(3)
                os._exit(0)
        for _ in range(8): os.wait()
        print('all of it')
    """, timeout=20)  # fmt: skip
    assert result.memory_exceeded and result.error == "more than 256 MiB of memory" and "all of it" not in result.stdout, result


@pytest.mark.parametrize("where", ["-1", "os.open('/dev/zero', os.O_RDWR)", "os.open('large', os.O_RDWR)"])
def test_a_gibibyte_is_not_to_be_had_by_sharing_the_memory(sandbox, where):
    """Filled by children who are gone when it is counted."""
    result = sandbox(f"""
        import mmap, os, time
        for name in range(6):
            if os.fork() == 0:
                with open("large", "wb") as file: file.truncate(180 << 20)
                kept = mmap.mmap({where}, 180 << 20)
                if os.fork() == 0:
                    for at in range(0, 180 << 20, 4096): kept[at] = 1
                    os._exit(0)
                os.wait()
                print("one of six")
                time.sleep(3)
                os._exit(0)
        for _ in range(6): os.wait()
        print('all of it')
    """, timeout=20)  # fmt: skip
    refused = not result.success or result.stdout.count("one of six") <= 1
    assert refused or not somewhere(result.level, "seccomp"), result


def test_memory_that_no_limit_counts_is_refused(sandbox):
    result = sandbox("""
        import ctypes, os
        libc, had = ctypes.CDLL(None), []
        try: os.memfd_create("x"); had.append("memfd")
        except OSError: pass
        if (segment := libc.shmget(0, ctypes.c_size_t(1 << 20), 0o1600)) != -1:
            had.append("shm"); libc.shmctl(segment, 0, None)
        if libc.unshare(0x10000000) == 0: had.append("namespace")
        print(had)
    """)
    if somewhere(result.level, "seccomp"):
        assert result.stdout == "[]\n", result


def test_it_may_use_the_memory_it_was_given(full):
    code = "x = bytearray(b'x') * (100 << 20)\nprint(len(x))"
    assert full(code).stdout == f"{100 << 20}\n"
    assert full(code, maximum_memory_bytes=64 << 20).memory_exceeded
    assert full("x = bytearray(b'x') * (400 << 20)\nprint(len(x))", maximum_memory_bytes=512 << 20).success


def test_a_gibibyte_of_file_is_refused(sandbox):
    result = sandbox("""
        written = 0
        try:
            with open("large", "wb", buffering=0) as file:
                for _ in range(1024): written += file.write(bytes(1 << 20))
        finally: print(written)
    """, timeout=20)  # fmt: skip
    assert not result.success and 0 < int(result.stdout) <= 32 << 20, result
    assert "File too large" in result.error or "No space left" in result.error


def test_many_files_are_no_way_around_it(full):
    result = full("""
        written = 0
        try:
            for i in range(256):  # 1 GiB at most
                with open(str(i), "wb", buffering=0) as file: written += file.write(bytes(4 << 20))
                if written > 80 << 20: break
        finally: print(written)
    """, timeout=20)  # fmt: skip
    if "namespaces" not in missing_of(result.level):
        assert not result.success and int(result.stdout) <= 64 << 20, result


def test_its_folder_is_gone_afterwards(sandbox):
    before = set(Path(tempfile.gettempdir()).glob("nanochat-*"))
    code = "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').write('x')\nos.chmod('a/b', 0)\nos.chmod('a', 0)\nos.symlink('/', 'link')"
    assert sandbox(code).success
    assert not {path for path in Path(tempfile.gettempdir()).glob("nanochat-*") if path not in before and list(path.iterdir())}


@pytest.mark.parametrize("stream", [1, 2])
def test_output_is_capped_while_it_is_read(full, stream):
    result = full(f"""
        import os
        line = b"begin" + b"x" * ((1 << 20) - 5)
        for _ in range(300):
            sent = 0
            while sent < len(line): sent += os.write({stream}, line[sent:])
        os.write({stream}, b"the end")
    """, timeout=60)  # fmt: skip
    text = result[stream]
    assert result.success, result.error
    assert text.startswith("beginxxx") and text.endswith("xxxthe end") and "bytes left out" in text and len(text) < 2 << 20
    assert full.grown < 50 << 20


def test_output_without_end_ends(full):
    result = full("while True: print('x' * 10000)", timeout=1)
    assert result.timeout and full.grown < 50 << 20


# --- programs of all kinds -------------------------------------------------------------------------------------------


def test_exits_are_told_apart(full):
    assert full("import sys; sys.exit(0)").success and full("import os; os._exit(0)").success
    for code, error in (
        ("import sys; sys.exit(3)", "exit code 3"), ("import os; os._exit(7)", "exit code 7"), ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit('so long')", "so long"), ("if", "SyntaxError: invalid syntax"), ("import os; os.abort()", "ended by signal 6"),
        ("assert 1 == 2, 'no'", "AssertionError: no"), ("import ctypes; ctypes.string_at(0)", "ended by signal 11"),
    ):  # fmt: skip
        result = full(code)
        assert not result.success and result.error and not result.timeout and not result.memory_exceeded, (code, result)
        assert result.error == error, (code, result)


@pytest.mark.parametrize("ending", ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit", "while False: pass"])
def test_the_mark_tells_who_ended_before_the_checks(full, ending):
    passed = ending.startswith("while")
    for checks, right in (("assert double(4) == 8", True), ("assert double(4) == 9", False), ("1 / 0", False)):
        result = full(f"def double(x): return 2 * x\nprint('working')\n{ending}", "check_program", checks)
        assert result.success == (passed and right), result
        assert result.error if not result.success else result.stdout == "working\n"
    early = full("import atexit, os\ndef double(x): os._exit(0)", "check_program", "assert double(4) == 8")
    assert not early.success and early.error == "ended before its checks did"


@pytest.mark.parametrize(
    "program",
    [
        "import os, sys\nprint(open(__file__).read())\nprint(sys.argv, os.environ, sys.flags)\nsys.stdout.flush()\nos._exit(0)",
        "print('0' * 32)\nraise SystemExit(0)", "import sys\nprint(*(f.f_globals for f in sys._current_frames().values()))\nraise SystemExit(0)",
        "import gc, os\nprint([o for o in gc.get_objects() if isinstance(o, (str, bytes))], flush=True)\nos._exit(0)", "'''", "if 0:\\", "(",
        "import builtins, sys\nsys.stdout = None\nraise SystemExit(0)", "import io, sys\nsys.exit = print\nopen('/tmp/x', 'w')\nraise SystemExit",
    ],
)  # fmt: skip
def test_the_mark_lies_in_no_file_argument_or_environment(full, program):
    assert not full(program, "check_program", "assert False").success


def test_the_mark_survives_what_programs_do_to_their_output(full):
    quiet = "import io, sys, os\nsys.stdout = io.StringIO()\nprint = None\nos, sys = 1, 2\n"
    assert full(quiet, "check_program", "assert True").success
    assert full("print('x', end='')", "check_program", "print('y', end='')") == (True, "xy", "", None, False, False, full("").level)
    loud = full("print('x' * 3_000_000)", "check_program", "assert True", timeout=20)
    assert loud.success and "left out" in loud.stdout
    assert full("import threading, time\nthreading.Thread(target=time.sleep, args=(30,)).start()", "check_program", "assert True").success


def test_invalid_utf8_and_surrogates(full):
    result = full(r"import os; os.write(1, b'\xff\xfe caf\xc3\xa9 \xe2\x82'); os.write(2, b'\x80')")
    assert result.success and result.stdout == "\ufffd\ufffd café \ufffd" and result.stderr == "\ufffd"
    assert full("print('naïve Ωmega 🎈')").stdout == "naïve Ωmega 🎈\n"
    assert full(r"print('\ud800')").error.startswith("UnicodeEncodeError") or full(r"print('\ud800')").success
    broken = execute_code("x = '\ud800'")
    assert not broken.success and "SyntaxError" in broken.error


def test_a_program_of_a_megabyte(full):
    code = "x = 0\n" + "x += 1  # and a comment that makes it long\n" * 25_000 + "print(x)"
    assert len(code) > 1_000_000
    result = full(code, timeout=60, maximum_memory_bytes=1 << 30)
    assert result.stdout == "25000\n", result.error
    assert full("x = '" + "a" * (1 << 20) + "'\nprint(len(x))").stdout == f"{1 << 20}\n"


def test_it_reads_nothing_from_stdin(full):
    result = full("import sys\nprint(repr(sys.stdin.read()))\ninput()")
    assert result.stdout == "''\n" and result.error.startswith("EOFError")


def test_deep_recursion_ends(full):
    assert full("def f(n): return f(n + 1)\nf(0)").error.startswith("RecursionError")
    deep = full("import sys\nsys.setrecursionlimit(10**7)\ndef f(n): return f(n + 1)\nf(0)", timeout=20)
    assert not deep.success and deep.error
    assert not full("x = []\nfor _ in range(10**5): x = [x]\nprint(repr(x))").success


def test_the_standard_library_is_there(full):
    result = full("""
        import collections, concurrent.futures, decimal, hashlib, json, random, re, sqlite3, statistics, subprocess, sys, tempfile, uuid, zlib
        with concurrent.futures.ThreadPoolExecutor(8) as pool: assert sum(pool.map(abs, range(-100, 0))) == 5050
        assert subprocess.run([sys.executable, "-I", "-S", "-c", "print(5)"], capture_output=True, text=True).stdout == "5\\n"
        assert subprocess.run("echo 7 | cat", shell=True, capture_output=True, text=True).stdout == "7\\n"
        with tempfile.TemporaryDirectory() as folder: open(folder + "/x", "w").write("x")
        if __name__ == "__main__": print("main", sys.argv, hashlib.sha256(b"").hexdigest()[:4])
    """)
    assert result.stdout == "main ['program.py'] e3b0\n", result


def test_many_threads_at_once():
    codes = [f"import os\nopen('mine', 'w').write('{i}')\nprint({i} * {i}, open('mine').read())" if i % 4 else "while True: pass" for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda code: execute_code(code, timeout=5 if "mine" in code else 0.5), codes))
    for i, result in enumerate(results):
        assert (result.stdout == f"{i * i} {i}\n") if i % 4 else result.timeout, result
    assert threading.active_count() < 20
    if LINUX:
        descriptors = len(os.listdir("/proc/self/fd"))
        execute_code("print(1)")
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_caller_in_a_folder_that_cannot_be_written(full):
    assert full("open('x', 'w').write('x')\nprint('fine')", cwd="/proc" if LINUX else "/").stdout == "fine\n"


def test_a_venv_in_a_home_that_nobody_else_can_enter(shop, user, python):
    home = Path(tempfile.mkdtemp(prefix="home-"))
    try:
        subprocess.run([python, "-m", "venv", "--without-pip", str(home / ".venv")], check=True, cwd="/", capture_output=True)
        if user is not None:
            os.chown(home, user, user)
        home.chmod(0o700)
        result = Sandbox(str(home / ".venv/bin/python"), shop, user, FULL)(f"import json, os\nprint(os.path.exists({str(home)!r}))")
        assert result.success and (result.stdout == "False\n" or "namespaces" in missing_of(result.level)), result
        assert result.level == Sandbox(python, shop, user, FULL)("print(1)").level
        (home / "python").symlink_to(python)
        linked = Sandbox(str(home / "python"), shop, user, FULL)("print(1)")
        assert linked.success and linked.level == result.level
    finally:
        shutil.rmtree(home)


def test_it_costs_little():
    execute_code("pass")  # the first one finds out what there is
    seconds = []
    for _ in range(9):
        begun = time.monotonic()
        assert execute_code("pass").success
        seconds.append(time.monotonic() - begun)
    assert min(seconds) < 0.1, seconds  # 0.035 on a quiet machine; the median of a busy one says nothing about us


def test_an_interrupted_caller_leaves_nothing_behind(full):
    """Ctrl-C while a program runs: the caller goes, and so does the program."""
    if not LINUX:
        pytest.skip("needs /proc")
    token = f"orphan-{os.getpid()}-{time.time()}"
    with full.start(stderr=subprocess.DEVNULL) as worker:
        worker.stdin.write(full.order("execute_code", textwrap.dedent(leave_a_child(token, "time.sleep(20)")), timeout=15))
        worker.stdin.close()
        while not alive(token) and worker.poll() is None:
            time.sleep(0.02)
        worker.send_signal(signal.SIGINT)
        assert worker.wait(10) != 0
        assert alive(token) == []


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="no such signal")
def test_a_caller_who_ignores_the_end_of_children():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert execute_code("print(1)").stdout == "1\n"
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_check_program_in_this_process():
    assert check_program("def f(): return 1", "assert f() == 1").success
