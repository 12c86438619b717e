"""The peers, and what can be asked of the front of one."""

import contextlib
import http.client
import json
import time

from machine import Failure, free_port, listens, started, until
from servers import START, Memory, Postgres, Redis

# Seconds that a backlog may take to be filled or worked off.
WORK = 120
# 200 bytes.
BODY = json.dumps({"task_name": "noop", "payload": {"x": "a" * 161}}, separators=(",", ":"))
JSON = "application/json"


def uvicorn(module):
    return ["venv/bin/python", "-m", "uvicorn", f"{module}:front", "--host", "127.0.0.1", "--port", "{PORT}", "--no-access-log"]


CELERY_WORKER = "venv/bin/python -m celery -A celery_redis worker --pool prefork --concurrency 2 --loglevel WARNING"

# Name: what it is called in the table, its language, its server, its front, its worker, its environment.
PEERS = {
    "sketch": ("the order's sketch (in memory)", "python", Memory, uvicorn("sketch"), None, {}),
    "celery": (
        "Celery, Redis",
        "python",
        Redis,
        uvicorn("celery_redis"),
        [*CELERY_WORKER.split(), "--without-gossip", "--without-mingle", "--without-heartbeat"],
        {},
    ),
    "bullmq": (
        "BullMQ, Redis",
        "node",
        Redis,
        ["node", "bullmq_redis.js"],
        ["node", "bullmq_redis.js"],
        {"NODE_ENV": "production"},
    ),
    "graphile": (
        "graphile-worker, PostgreSQL",
        "node",
        Postgres,
        ["node", "graphile_postgres.js"],
        ["node", "graphile_postgres.js"],
        {"NODE_ENV": "production", "NO_LOG_SUCCESS": "1"},
    ),
    "graphile-tuned": (
        "the same, tuned",
        "node",
        Postgres,
        ["node", "graphile_postgres.js"],
        ["node", "graphile_postgres.js"],
        {"NODE_ENV": "production", "NO_LOG_SUCCESS": "1", "TUNED": "1"},
    ),
    "procrastinate": (
        "procrastinate, PostgreSQL",
        "python",
        Postgres,
        uvicorn("procrastinate_postgres"),
        ["venv/bin/python", "procrastinate_postgres.py"],
        {},
    ),
}


class Front:
    """A peer's front on a fresh server, and what can be asked of it."""

    def __init__(self, folder, recipe, server, stack):
        _, _, _, front, self.worker_command, environment = recipe
        self.folder, self.stack, self.port = folder, stack, free_port()
        self.environment = {**stack.enter_context(server.fresh()), **environment, "PORT": str(self.port)}
        command = [word.replace("{PORT}", str(self.port)) for word in front]
        self.process = self.worker = stack.enter_context(started(command, folder, {**self.environment, "ROLE": "front"}))
        until(lambda: listens(self.port), self.process, START)
        self.counts()

    def ask(self, method, path, body=None, media_type=JSON):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WORK)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"content-type": media_type} if body else {})
            answer = connection.getresponse()
            text = answer.read()
        if answer.status != 200:
            raise Failure(f"{path}: {answer.status} {text[-300:]!r}; {self.process.said()}")
        return json.loads(text)

    def counts(self):
        return self.ask("GET", "/counts")

    def done(self):
        return self.counts()["done"]

    def backlog(self, count):
        self.ask("POST", f"/backlog/{count}", BODY)

    def work(self):
        if self.worker_command:
            environment = {**self.environment, "ROLE": "worker"}
            self.worker = self.stack.enter_context(started(self.worker_command, self.folder, environment))
        else:
            self.ask("POST", "/work")

    def wait_done(self, count, seconds=WORK):
        until(lambda: self.done() >= count, self.worker, seconds)

    def drained(self, count, end):
        """How many are done, once that is all of them or the time is over."""
        done = self.done()
        return done if done >= count or time.monotonic() > end else None

    def must_have(self, waiting, done):
        """Nothing lost, nothing twice, nothing failed."""
        if self.worker_command and waiting == 0:
            # A result may be there a moment before its message is acknowledged.
            until(lambda: self.counts()["waiting"] == 0, self.worker, START)
        counts = self.counts()
        if counts != {"waiting": waiting, "done": done}:
            raise Failure(f"{waiting} waiting and {done} done were due; there are {counts}")
