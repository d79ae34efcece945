"""The process that execution.py starts for every program: it builds the sandbox, runs the program inside, watches it, and reports.

It runs as `python -I -S -B sandbox_runner.py`, so it imports little: every millisecond here is paid once per program. Its processes:

    runner ── enters the namespaces, waits
      └── supervisor ── process 1 of its namespace: builds the root folder, keeps time and memory; when it ends, the kernel ends all the rest
            └── program ── gives up its rights, then becomes another Python

Where namespaces are refused, runner and supervisor are one process, which adopts the program's orphans and kills them by name."""

import contextlib
import ctypes
import functools
import marshal
import os
import resource
import select
import sys
import time
from collections.abc import Callable, Iterator

# --- what the program gets -------------------------------------------------------------------------------------------

PROCESSES = 64  # threads count as well
OPEN_FILES = 64
FILE_BYTES = 32 << 20
FOLDER_BYTES = 64 << 20  # of all its files; they lie in memory, so this stands beside the limit on memory
FOLDER_FILES = 4096
TICK = 0.02  # seconds between two looks at the memory: two cores fill about 100 MB meanwhile
NOBODY = 65534  # who a program is when root starts it: no limit on processes binds root

SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/gnu/store", "/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/full", "/dev/random", "/dev/urandom")
LINUX = sys.platform == "linux"


class Refused(Exception):
    """A part of the sandbox cannot be had here."""


@functools.cache
def library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def kernel(name: str, *arguments) -> int:
    """A function of the C library, integers as wide as registers; the OSError says which call it was."""
    result = getattr(library(), name)(*(ctypes.c_long(value) if isinstance(value, int) else value for value in arguments))
    if result == -1:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """What fails in here is this part of the sandbox."""
    try:
        yield
    except (OSError, AttributeError) as error:  # AttributeError: a C library that does not know the function
        raise Refused(f"{name} {error}") from error


def main() -> None:
    job = marshal.loads(sys.stdin.buffer.read())
    os.set_inheritable(job["status"], False)  # from here on nobody inherits it who does not fork from us
    try:
        run(job)
    except BaseException as error:
        tell(job, f"refused {error}" if isinstance(error, Refused) else f"broken {type(error).__name__}: {error}")
    os._exit(0)  # nothing to flush; and it is quicker


def tell(job: dict, line: str) -> None:
    os.write(job["status"], line.replace("\n", " ").encode("utf-8", "replace") + b"\n")


def run(job: dict) -> None:
    die_with_parent(job["parent"])
    if LINUX:
        kernel("signal", 17, 0)  # SIGCHLD: a caller who ignores it hands that down, and then nobody's end could be waited for
    source = os.path.join(job["folder"], "program.py")
    job["namespaces"], job["user"] = "namespaces" in job["parts"], os.geteuid()
    readable()
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY) if LINUX else -1  # the machine's, before the root folder is another
    if not job["namespaces"]:
        if LINUX:
            kernel("prctl", 36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans become ours
            job["user"] = exchange_root(job, source)
        job["processes"] = PROCESSES + tasks_of(job["user"])
    else:
        job["user"] = job["user"] or NOBODY
        job["processes"] = PROCESSES + (0 if counts_by_namespace() else tasks_of(job["user"]))
        with part("namespaces"):
            enter_namespaces()
        if supervisor := os.fork():
            os.waitpid(supervisor, 0)  # returns when everything in its namespace has ended
            return
        die_with_parent(0)  # as seen from a namespace, a parent outside of it has no number
        with part("namespaces"):
            build_root(job["folder"], source)
        job["folder"] = "/tmp"
    supervise(job, start_program(job), proc)


def die_with_parent(parent: int) -> None:
    if LINUX:
        kernel("prctl", 1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
        if os.getppid() != parent:
            os._exit(1)  # it died before we asked


# --- namespaces and a root folder of its own -------------------------------------------------------------------------

NEW_USER, NEW_NETWORK, NEW_PROCESSES, NEW_IPC, NEW_MOUNTS = 0x10000000, 0x40000000, 0x20000000, 0x08000000, 0x00020000
BIND_ALL, PRIVATE_ALL, NOSUID_NODEV, DETACH = 0x5000, 0x44000, 0x6, 0x2
READ_ONLY, NO_SUID, NO_DEVICES = 0x1, 0x2, 0x4


def enter_namespaces() -> None:
    """Ours from here on: users, mounts, network, IPC, and the processes that we fork from now on."""
    user, group, entered = os.geteuid(), os.getegid(), os.pipe()
    helper = os.fork()
    if helper == 0:  # stays outside, for from inside root could not let in anyone else
        try:
            os.close(entered[1])
            os._exit(0 if os.read(entered[0], 1) and write_maps(os.getppid(), user, group) else 1)
        finally:
            os._exit(1)
    try:
        kernel("unshare", NEW_USER | NEW_NETWORK | NEW_PROCESSES | NEW_IPC | NEW_MOUNTS)
        os.write(entered[1], b"!")
    finally:
        os.close(entered[1])
        status = os.waitpid(helper, 0)[1]
    if status:
        raise OSError("the user namespace got no users")


def write_maps(pid: int, user: int, group: int) -> bool:
    """Everyone keeps the number they have outside. Nobody is let in beside root, who becomes it later."""
    if user:
        write(f"/proc/{pid}/setgroups", b"deny")  # the condition on which the kernel lets an ordinary user map a group
    for name, number in (("gid_map", group), ("uid_map", user)):
        numbers = {number} if user else {number, NOBODY}
        write(f"/proc/{pid}/{name}", "".join(f"{number} {number} 1\n" for number in numbers).encode())
    return True


def write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    with open(descriptor, "wb", buffering=0) as file:  # one write: the kernel takes a map whole or not at all
        file.write(data)


def build_root(root: str, source: str) -> None:
    """A small file system in memory, with what Python needs from the machine mounted read-only, becomes the root; the machine's is gone.
    The program's folder is /tmp in it."""
    with open(source, "rb") as file:
        program = file.read()
    kernel("mount", None, b"/", None, PRIVATE_ALL, None)
    kernel("mount", b"tmpfs", os.fsencode(root), b"tmpfs", NOSUID_NODEV, f"size={FOLDER_BYTES},nr_inodes={FOLDER_FILES},mode=755".encode())
    for path in readable():
        show(path, root, READ_ONLY | NO_SUID | NO_DEVICES)
    for path in DEVICES:
        show(path, root, READ_ONLY | NO_SUID)
    os.makedirs(root + "/tmp", exist_ok=True)  # it exists if Python lies in there
    write(root + "/tmp/program.py", program)
    if os.geteuid() == 0:
        os.chown(root + "/tmp", NOBODY, NOBODY)
    os.chdir(root)
    kernel("pivot_root", b".", b".")  # the machine's root now lies on top of ours, and only needs to be taken off
    kernel("umount2", b".", DETACH)
    os.chdir("/")


def show(path: str, root: str, attributes: int) -> None:
    """Make a path of the machine visible under the new root: a link as a link, anything else as a mount of the same name."""
    target = root + path
    if os.path.lexists(target) or not os.path.exists(path):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.mkdir(target)
    else:
        write(target, b"")
    kernel("mount", os.fsencode(path), os.fsencode(target), None, BIND_ALL, None)
    mount_attributes = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    kernel("syscall", 442, -100, os.fsencode(target), 0x8000, mount_attributes, 32)  # mount_setattr, with all that is mounted below it


@functools.cache
def python() -> str:
    """Not the venv's, which lies in somebody's folder, and no link. Found out, as what is readable, while all of the machine can still be seen."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


@functools.cache
def readable() -> list[str]:
    """The system's folders, and those that Python's standard library and its own libraries lie in, each only once."""
    wanted = [*SYSTEM, python(), *sys.path, *(os.path.join(sys.base_prefix, name) for name in ("lib", "lib64"))]
    shortest = sorted({path for entry in wanted for path in (entry, os.path.realpath(entry))}, key=len)
    found: list[str] = []
    for path in shortest:
        if os.path.exists(path) and not any(path.startswith(parent + "/") for parent in found if not os.path.islink(parent)):
            found.append(path)
    return found


# --- the program's process -------------------------------------------------------------------------------------------


def start_program(job: dict) -> int:
    """Fork, and become the program. A part that is refused there is told from there."""
    if pid := os.fork():
        return pid
    try:
        os.chdir(job["folder"])
        give_up_rights(job)
        if job["mark"]:
            reading, writing = os.pipe()
            os.write(writing, job["mark"])
            os.dup2(reading, job["mark_at"], inheritable=True)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.execve(python(), [python(), "-I", "-S", "-B", "-X", "utf8", "program.py"], environment(job["folder"]))
    except BaseException as error:
        tell(job, f"refused {error}" if isinstance(error, Refused) else f"broken {type(error).__name__}: {error}")
    finally:
        os._exit(1)


def environment(folder: str) -> dict[str, str]:
    # without the last one every thread reserves 64 MB of addresses, which count as memory
    fixed = {"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "2"}
    return {**fixed, **{name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}}


def give_up_rights(job: dict) -> None:
    """In this order: each step needs what the next one takes away."""
    parts = job["parts"]
    if not job["namespaces"]:
        os.setpgid(0, 0)
    set_limits(job["timeout"], job["memory"], job["processes"])
    ruleset = None
    if "landlock" in parts:
        with part("landlock"):
            ruleset = landlock_rules(job["folder"])  # opened while we may still open everything
    if LINUX:
        with part("processes"):
            drop_to(job["user"])
    if ruleset is not None:
        with part("landlock"):
            kernel("syscall", 446, ruleset, 0)  # landlock_restrict_self
    if "seccomp" in parts:
        with part("seccomp"):
            filter_calls()


def set_limits(timeout: float, memory: int, processes: int) -> None:
    limits = {
        "CPU": int(2 * timeout) + 2,  # per process, a net below the clock: only what escaped the supervisor falls into it
        "AS": memory, "FSIZE": FILE_BYTES, "NOFILE": OPEN_FILES, "NPROC": processes, "MSGQUEUE": 0, "MEMLOCK": 0,
        "CORE": 1,  # less than a core file, and the one value that keeps Linux from calling a program which collects them
    }  # fmt: skip
    for name, value in limits.items():
        if LINUX or name not in ("NPROC", "AS"):  # elsewhere the first counts what the user runs already and the second is not kept
            number = getattr(resource, f"RLIMIT_{name}", None)
            if number is not None:
                most = resource.getrlimit(number)[1]
                value = value if most == resource.RLIM_INFINITY else min(value, most)
                resource.setrlimit(number, (value, value))


def counts_by_namespace() -> bool:
    """Since Linux 5.14 the limit on processes counts those of the user namespace, before that those of the user on the whole machine."""
    release = os.uname().release.split(".")
    return (int(release[0]), int(release[1].split("-")[0])) >= (5, 14)


def tasks_of(user: int) -> int:
    """Processes and threads that they have now."""
    tasks = 0
    if not LINUX:
        return 0
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{entry}").st_uid == user:
                    tasks += len(os.listdir(f"/proc/{entry}/task"))
    return tasks


def exchange_root(job: dict, source: str) -> int:
    """Without namespaces, who the program shall be: nobody instead of root, if nobody can read Python and enter the folder."""
    if os.geteuid() != 0 or "processes" not in job["parts"]:
        return os.geteuid()
    with part("processes"):
        os.chown(job["folder"], NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            for path in (os.__file__, python(), source):
                os.close(os.open(path, os.O_RDONLY))
        finally:
            os.seteuid(0)
    return NOBODY


def drop_to(user: int) -> None:
    """Another user if we were root; no capabilities, not even for a root that stays root; no way back by a program with the setuid bit."""
    if user != os.geteuid():
        os.setgroups([])
    for capability in range(64):
        with contextlib.suppress(OSError):  # beyond the last one, or we never had any
            kernel("prctl", 24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    if user != os.geteuid():
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    kernel("capset", (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
    kernel("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS


# --- Landlock and seccomp --------------------------------------------------------------------------------------------

# Rights on files by their bits: 0 execute, 1 write, 2 read, 3 list, 4-5 remove, 6-12 make (6 and 11 are devices), 13 move, 14 truncate, 15 ioctl.
RIGHTS_BY_ABI = (0, 13, 14, 15, 15, 16)  # how many of them an ABI knows; later ones know as many as the last
READING, OF_A_FILE, MAKING_DEVICES = 0b1101, 0b1100000000000111, 1 << 6 | 1 << 11


def landlock_rules(folder: str) -> int:
    """Read and execute what `readable` says, do anything but make devices in the folder, reach no TCP port and signal no one outside."""
    abi = kernel("syscall", 444, None, 0, 1)
    if abi < 3:
        raise OSError("this kernel's Landlock cannot keep a program from truncating files")  # Linux before 6.2
    every = (1 << RIGHTS_BY_ABI[min(abi, 5)]) - 1
    handled = (ctypes.c_uint64 * 3)(every, 0b11 if abi >= 4 else 0, 0b11 if abi >= 6 else 0)
    ruleset = kernel("syscall", 444, handled, 24, 0)
    os.set_inheritable(ruleset, False)
    for path in readable():
        allow(ruleset, path, READING & every)
    for path in DEVICES:
        allow(ruleset, path, 0b110)
    allow(ruleset, folder, every & ~MAKING_DEVICES)
    return ruleset


def allow(ruleset: int, path: str, rights: int) -> None:
    if not os.path.exists(path):
        return
    descriptor = os.open(path, os.O_PATH)
    if not os.path.isdir(path):
        rights &= OF_A_FILE
    rule = rights.to_bytes(8, sys.byteorder) + descriptor.to_bytes(4, sys.byteorder)
    kernel("syscall", 445, ruleset, 1, rule, 0)
    os.close(descriptor)


# By machine: its name to seccomp, clone, mmap, and the calls that answer EPERM. No sockets of any kind (a pair of them is another call), no memory
# that no limit counts (memfd, System V), no looking into other processes, no mounts and namespaces, no keys, no kernel interfaces that a program for
# the standard library never needs.
CALLS = {
    "x86_64": (0xC000003E, 56, 9, (41, 29, 64, 68, 240, 319, 101, 310, 311, 312, 165, 166, 155, 161, 272, 308, 303, 304, 248, 249, 250, 321, 298,
                                   323, 175, 313, 246, 320)),
    "aarch64": (0xC00000B7, 220, 222, (198, 194, 190, 186, 180, 279, 117, 270, 271, 272, 40, 39, 41, 51, 97, 268, 264, 265, 217, 218, 219, 280, 241,
                                       282, 105, 273, 104, 294)),
}  # fmt: skip
# io_uring, the new mount calls, pidfd_getfd, memfd_secret: numbers since 424 are the same everywhere
CALLS_EVERYWHERE = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 447)
CLONE3, NEW_ANYTHING = 435, 0x7E020000
SHARED, ANONYMOUS = 0x01, 0x20  # memory that outlives the process that filled it, so that it is nobody's when it is counted
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE, NO_MEMORY, NO_SUCH_CALL = 0x7FFF0000, 0x00050001, 0x0005000C, 0x00050026  # SECCOMP_RET_ERRNO with EPERM, ENOMEM, ENOSYS


def filter_calls() -> None:
    machine = os.uname().machine
    if machine not in CALLS or sys.maxsize < 2**32:
        raise OSError(f"no table of system calls for {machine}")
    lines = instructions(*CALLS[machine])
    program = b"".join(code.to_bytes(2, "little") + bytes(jumps) + value.to_bytes(4, "little") for code, jumps, value in lines)
    buffer = ctypes.create_string_buffer(program)
    # struct sock_fprog: how many, padding, where
    pointer = ctypes.create_string_buffer((len(program) // 8).to_bytes(8, "little") + ctypes.addressof(buffer).to_bytes(8, "little"))
    kernel("prctl", 22, 2, pointer, 0, 0)  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def instructions(machine: int, clone: int, mmap: int, refused: tuple[int, ...]) -> list[tuple[int, tuple[int, int], int]]:
    """The filter: (code, (how far to jump if true, if false), value). It reads the machine at 4, the call at 0, clone's flags at 16, mmap's at 40."""
    lines = [(LOAD, (0, 0), 4), (EQUAL, (1, 0), machine), (RETURN, (0, 0), NO_SUCH_CALL)]
    lines += [(LOAD, (0, 0), 0), (AT_LEAST, (0, 1), 0x40000000), (RETURN, (0, 0), NO_SUCH_CALL)]  # x86's second table of the same calls
    lines += [(EQUAL, (0, 1), CLONE3), (RETURN, (0, 0), NO_SUCH_CALL)]  # its flags lie in memory; the C library then takes clone
    for number in (*refused, *CALLS_EVERYWHERE):
        lines += [(EQUAL, (0, 1), number), (RETURN, (0, 0), REFUSE)]
    lines += [(EQUAL, (0, 5), mmap), (LOAD, (0, 0), 40), (ANY_BIT, (0, 2), SHARED), (ANY_BIT, (0, 1), ANONYMOUS), (RETURN, (0, 0), NO_MEMORY)]
    lines += [(RETURN, (0, 0), ALLOW)]
    lines += [(EQUAL, (0, 3), clone), (LOAD, (0, 0), 16), (ANY_BIT, (0, 1), NEW_ANYTHING), (RETURN, (0, 0), REFUSE)]
    return [*lines, (RETURN, (0, 0), ALLOW)]


# --- watching it -----------------------------------------------------------------------------------------------------


def supervise(job: dict, program: int, proc: int) -> None:
    """Until the program has ended, its time is up or all its processes together hold too much memory. Then nothing of it is left."""
    if LINUX:
        kernel("prctl", 4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: the program, if it is the same user, may not look into us
    deadline, why, status = time.monotonic() + job["timeout"], "", None
    wait = waiter(program)
    while status is None and not why:
        left = deadline - time.monotonic()
        wait(max(min(left, TICK), 0))
        status = reap(program)
        if status is None and left <= 0:
            why = " timeout"
        elif status is None:
            why = excess(processes_below(proc), proc, job["memory"])
    if not job["namespaces"]:
        kill_all(program, proc)
    code = -9 if status is None else os.waitstatus_to_exitcode(status)
    tell(job, f"ended {code}{why}")


def excess(processes: list[str], proc: int, memory: int) -> str:
    """What all of them together have too much of. Their number is limited already, unless root had to stay root."""
    if len(processes) > PROCESSES:
        return " processes"
    return " memory" if memory_of(processes, proc) > memory else ""


def waiter(program: int) -> Callable[[float], object]:
    """A function that waits some seconds, or shorter if the program ends."""
    try:
        poll = select.poll()
        poll.register(os.pidfd_open(program), select.POLLIN)
    except (AttributeError, OSError):
        return lambda seconds: time.sleep(min(seconds, 0.005))
    return lambda seconds: poll.poll(seconds * 1000)


def reap(program: int) -> int | None:
    """Bury who has died, orphans as well; the program's status if it was among them."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while (dead := os.waitpid(-1, os.WNOHANG))[0]:
            status = dead[1] if dead[0] == program else status
    return status


def processes_below(proc: int) -> list[str]:
    """Their numbers in the namespace that `proc` shows, which is not ours: where it has a 37, we may have a 2."""
    if proc < 0:
        return []
    found = [os.readlink("self", dir_fd=proc)]
    for pid in found:  # grows on the way
        with contextlib.suppress(OSError):  # it ended meanwhile
            for task in entries(f"{pid}/task", proc):
                found += read(f"{pid}/task/{task}/children", proc).split()
    return found[1:]


def entries(path: str, folder: int) -> list[str]:
    descriptor = os.open(path, os.O_RDONLY, dir_fd=folder)
    try:
        return os.listdir(descriptor)
    finally:
        os.close(descriptor)


def read(path: str, folder: int) -> str:
    with open(os.open(path, os.O_RDONLY, dir_fd=folder)) as file:
        return file.read()


def memory_of(processes: list[str], proc: int) -> int:
    """Bytes that are not a file's, those that are shared with others included. What two of them share counts twice."""
    total = 0
    for pid in processes:
        with contextlib.suppress(OSError):
            for line in read(f"{pid}/status", proc).splitlines():
                if line.startswith(("RssAnon:", "RssShmem:")):
                    total += int(line.split()[1]) * 1024
    return total


def kill_all(program: int, proc: int) -> None:
    """Without a namespace: the group, and then whoever is found below us, until nobody is found or a second has passed."""
    with contextlib.suppress(OSError):
        os.killpg(program, 9)
    end = time.monotonic() + 1
    while (left := processes_below(proc)) and time.monotonic() < end:
        for signal in (19, 9):  # all stand still first, or new ones start while the old ones die
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(int(pid), signal)
        time.sleep(0.001)
        reap(program)


if __name__ == "__main__":
    main()
