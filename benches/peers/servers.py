"""What is installed in the throw-away folder, and the private servers that peers keep their tasks in: fresh ones for each run."""

import contextlib
import glob
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile

from machine import Failure, free_port, listens, run, say, started, until

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(os.path.dirname(HERE))
# Seconds that anything may take to come up.
START = 30


def debian(package, found):
    """A program of a Debian package, installed when it is missing and we may. It stays installed."""
    path = found()
    if not path:
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise Failure(f"the Debian package {package} is missing: install it, or run this as root on Debian")
        say(f"installing {package}")
        # RUNLEVEL=1 keeps init scripts from starting the package's own service.
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        run(["apt-get", "update", "-qq"], env=quiet)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], env=quiet)
        path = found()
    if not path:
        raise Failure(f"the Debian package {package} did not bring what is needed")
    return path


def postgres_programs():
    by_version = lambda path: [int(part) for part in path.split("/")[4].split(".")]
    paths = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=by_version)
    path = paths[-1] if paths else shutil.which("initdb")
    return path and os.path.dirname(os.path.realpath(path))


def install(folder, languages):
    """The peers' packages at their pinned versions, and their files, in the throw-away folder."""
    for name in os.listdir(HERE):
        if name.endswith((".py", ".js", ".json", ".txt")):
            shutil.copy(os.path.join(HERE, name), folder)
    if "python" in languages:
        say("installing Python packages")
        run([sys.executable, "-m", "venv", "venv"], cwd=folder)
        run(["venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", "requirements.txt"], cwd=folder)
    if "node" in languages:
        if not shutil.which("npm"):
            raise Failure("node and npm are missing: install Node.js 20 or later")
        say("installing npm packages")
        run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder)


def load_generator():
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(PROJECT, "target"))
    path = os.path.join(target, "release", "taskhost-bench")
    if not os.path.exists(path):
        say("building the load generator")
        run(["cargo", "build", "--release", "--locked", "-p", "taskhost-bench"], cwd=PROJECT, seconds=1_800)
    return path


class Redis:
    """A Redis for each run, which syncs its log for every write before it answers."""

    def __init__(self, folder, stack):
        self.folder = folder
        self.program = debian("redis-server", lambda: shutil.which("redis-server"))

    @contextlib.contextmanager
    def fresh(self):
        port, password = free_port(), secrets.token_hex(16)
        data = tempfile.mkdtemp(dir=self.folder)
        settings = {
            "bind": "127.0.0.1",
            "port": port,
            "requirepass": password,
            "dir": data,
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "always",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        with open(os.path.join(data, "redis.conf"), "w") as file:
            file.writelines(f"{name} {value}\n" for name, value in settings.items())
        with started([self.program, file.name], data) as process:
            until(lambda: listens(port), process, START)
            yield {"REDIS_URL": f"redis://:{password}@127.0.0.1:{port}"}
        shutil.rmtree(data)


class Postgres:
    """One PostgreSQL for a peer, with a database for each run. It refuses to run as root, so as root another user runs it."""

    def __init__(self, folder, stack):
        self.programs = debian("postgresql", postgres_programs)
        self.port, self.password, self.databases = free_port(), secrets.token_hex(16), 0
        data = tempfile.mkdtemp(dir=folder)
        options = {"cwd": data}
        password_file = os.path.join(data, "password")
        with open(password_file, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(self.password)
        if os.geteuid() == 0:
            known = {entry.pw_name: entry for entry in pwd.getpwall()}
            user = known.get("postgres") or known["nobody"]
            for path in (data, password_file):
                os.chown(path, user.pw_uid, user.pw_gid)
            options.update(user=user.pw_uid, group=user.pw_gid, extra_groups=[])
        stored = os.path.join(data, "data")
        initdb = [f"{self.programs}/initdb", "-D", stored, "-U", "peer", "-A", "scram-sha-256", f"--pwfile={password_file}"]
        run([*initdb, "-E", "UTF8", "--locale=C", "--no-sync"], **options)
        settings = [
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            "unix_socket_directories=",
            "fsync=on",
            "synchronous_commit=on",
        ]
        server = [f"{self.programs}/postgres", "-D", stored, *(word for setting in settings for word in ("-c", setting))]
        # Its children leave its process group; on SIGQUIT it ends them at once.
        process = stack.enter_context(started(server, folder, stop=signal.SIGQUIT, **options))
        self.environment = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "peer", "PGPASSWORD": self.password}
        until(self.is_ready, process, START)

    def is_ready(self):
        command = [f"{self.programs}/pg_isready", "-q"]
        return subprocess.run(command, env={**os.environ, **self.environment}, timeout=START).returncode == 0

    @contextlib.contextmanager
    def fresh(self):
        self.databases += 1
        name = f"run{self.databases}"
        run([f"{self.programs}/createdb", name], env={**os.environ, **self.environment})
        yield {"DATABASE_URL": f"postgresql://peer:{self.password}@127.0.0.1:{self.port}/{name}"}
        run([f"{self.programs}/dropdb", "--force", name], env={**os.environ, **self.environment})


class Memory:
    """No server: all is in the front's memory."""

    def __init__(self, folder, stack):
        pass

    @contextlib.contextmanager
    def fresh(self):
        yield {}
