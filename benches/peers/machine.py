"""Processes on this machine: each ends with the block that started it, and what they take of the cores is known."""

import contextlib
import glob
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

# Cores for a peer, its servers and the load generator together.
CORES = 2
# Seconds to wait for the machine to have a moment without other work, and the share of the cores that counts as that.
CALM, BUSY = 10, 0.1


class Failure(Exception):
    """What a person can act on."""


def cell(values, digits=0):
    """A median and a range, as tables show them."""
    median, least, most = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{median} ({least} to {most})"


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(arguments, seconds=300, **options):
    """A command that is expected to end well; its output."""
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds, text=True, **options)
    if done.returncode != 0:
        raise Failure(f"{' '.join(arguments[:3])} failed: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


@contextlib.contextmanager
def started(arguments, folder, environment=(), stop=signal.SIGKILL, **options):
    """A process with all that it starts, till the end of the block. What it says is in its log, which a failure shows."""
    log = tempfile.NamedTemporaryFile("w+", dir=folder, suffix=".log")
    process = subprocess.Popen(
        arguments,
        cwd=options.pop("cwd", folder),
        env={**os.environ, **dict(environment)},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        **options,
    )
    process.said = lambda: open(log.name, errors="replace").read().strip()[-1_500:]
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, stop)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


def until(condition, process, seconds):
    """Waits until the condition gives something true; gives it back. Waits longer where asking takes longer."""
    end = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        found = condition()
        if found:
            return found
        if process.poll() is not None:
            raise Failure(f"{os.path.basename(process.args[0])} ended: {process.said()}")
        now = time.monotonic()
        if now > end:
            raise Failure(f"not there after {seconds} s: {process.said()}")
        time.sleep(max(0.005, 10 * (now - asked)))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def cores_seconds():
    """Seconds of the cores so far: of all the machine's work, and of ours, which is this process and all that descends from it."""
    tick = os.sysconf("SC_CLK_TCK")
    with open("/proc/stat") as file:
        user, nice, system = (int(word) / tick for word in file.readline().split()[1:4])
    spent, children = {}, {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError), open(path) as file:
            words = file.read().rpartition(")")[2].split()
            process = int(path.split("/")[2])
            # Its own, and what those cost that it has waited for.
            spent[process] = sum(int(word) for word in words[11:15]) / tick
            children.setdefault(int(words[1]), []).append(process)
    ours, left = 0, [os.getpid()]
    while left:
        process = left.pop()
        ours += spent.get(process, 0)
        left += children.get(process, [])
    return user + nice + system, ours


class OtherWork:
    """The share of the machine's cores that others' work takes: what makes figures low that wait for a disk or for each other."""

    def __init__(self):
        self.begun, self.before = time.monotonic(), cores_seconds()

    def share(self):
        (all_before, ours_before), (all_after, ours_after) = self.before, cores_seconds()
        others = (all_after - all_before) - (ours_after - ours_before)
        return max(0.0, others / (time.monotonic() - self.begun) / os.cpu_count())


def calm():
    """Waits a while for the others to pause."""
    end = time.monotonic() + CALM
    while time.monotonic() < end:
        other = OtherWork()
        time.sleep(0.5)
        if other.share() < BUSY:
            return
