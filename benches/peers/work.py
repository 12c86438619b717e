"""The mix of work on queues whose workers are processes, one a core, and on Taskhost: by turns, the same lines in one batch.

A burn is a time of the processor, not an amount of computing, so that queues are compared and not languages.
"""

import contextlib
import json
import math
import os
import statistics
import subprocess
import time

import front
from machine import CORES, Failure, OtherWork, calm, cell, cores_seconds, run, say, until
from servers import PROJECT

RUNS = 3
# Tasks for each second that was asked for.
TASKS = 500
# Seconds that a batch may take.
LONGEST = 1_800
# Tasks before it that do nothing, so that each process is up and warm.
WARM = 100
ENVIRONMENT = {
    "CONCURRENCY": str(CORES),
    "SAMPLE": os.path.join(PROJECT, "samples", "sp500-daily-2000-2020.csv"),
}


def celery():
    name, language, server, _, worker, environment = front.PEERS["celery"]
    worker = [word.replace("celery_redis", "celery_work") for word in worker]
    return name, language, server, front.uvicorn("celery_work"), worker, {**environment, **ENVIRONMENT}


def bullmq():
    *recipe, environment = front.PEERS["bullmq"]
    return *recipe, {**environment, **ENVIRONMENT, "SANDBOX": "bullmq_processor.js"}


PEERS = {"celery": celery(), "bullmq": bullmq()}

# Names of kinds, by handler and bound.
KINDS = {
    ("burn", 50): "burn 50 ms",
    ("sleep", 100): "sleep 100 ms",
    ("read", None): "read 416 kB",
    ("give", 100_000): "return 100 kB",
    ("give", 1_000_000): "return 1 MB",
}
# Figures of a run besides those by kind: what they are called, and their digits.
FIGURES = {
    "per_second": ("tasks a second", 1),
    "failed": ("failed, %", 1),
    "repeated": ("repeated attempts", 0),
    "lost": ("of the cores lost, %", 1),
    "spent": ("processor besides the burns, ms a task", 2),
    "other": ("other work on the cores, %", 1),
}


def kind(task_name, payload):
    return KINDS[task_name, next(iter(payload.values()), None)]


def taskhost(generator, tasks):
    return json.loads(run([generator, "mix", "run", str(tasks)], seconds=LONGEST))


def peer(folder, recipe, server, lines):
    """One run: as Taskhost tells it of itself."""
    with contextlib.ExitStack() as stack:
        log = os.path.join(folder, "work.log")
        with contextlib.suppress(FileNotFoundError):
            os.remove(log)
        *recipe, environment = recipe
        queue = front.Front(folder, (*recipe, {**environment, "WORK_LOG": log}), server, stack)
        queue.work()
        queue.backlog(WARM)
        queue.wait_done(WARM, front.WORK)
        calm()
        other, own, before = OtherWork(), time.process_time(), cores_seconds()[1]
        sent = time.time()
        queue.ask("POST", "/batch", lines, "application/x-ndjson")
        tasks = lines.count("\n")
        until(lambda: queue.ask("GET", "/ended") >= WARM + tasks, queue.worker, LONGEST)
        spent = cores_seconds()[1] - before - (time.process_time() - own)
        share = other.share()
        ended = queue.ask("GET", "/times")
    if len(ended) != tasks:
        raise Failure(f"{tasks} tasks were due, and {len(ended)} ended")
    return figures(ended, sent, spent, share)


def figures(ended, sent, spent, other):
    """`ended`: of each task name, payload, start and end in seconds of the epoch, whether it succeeded, attempts."""
    seconds = max(task[3] for task in ended) - sent
    burnt = sum(payload["ms"] for name, payload, _, _, succeeded, _ in ended if name == "burn" and succeeded) / 1e3
    times = {}
    for name, payload, started, done, *_ in ended:
        times.setdefault(kind(name, payload), []).append((started - sent, done - sent))
    at = lambda values, share: 1e3 * sorted(values)[min(int(len(values) * share), len(values) - 1)]
    return {
        "per_second": len(ended) / seconds,
        "failed": 100 * sum(not task[4] for task in ended) / len(ended),
        "repeated": sum(task[5] - 1 for task in ended),
        "lost": 100 * (1 - burnt / seconds / CORES),
        "spent": 1e3 * (spent - burnt) / len(ended),
        "other": 100 * other,
        "lateness": {
            name: [at(values, share) for values in zip(*found) for share in (0.5, 0.99)] for name, found in times.items()
        },
    }


def table(folder, generator, peers, seconds):
    """Prints the table; whether one of the queues failed."""
    tasks = math.ceil(seconds * TASKS / 100) * 100
    lines = run([generator, "mix", "lines", str(tasks)])
    servers = contextlib.ExitStack()
    with servers:
        queues = {"Taskhost": lambda: taskhost(generator, tasks)}
        for name in peers:
            server = PEERS[name][2](folder, servers)
            queues[PEERS[name][0]] = lambda name=name, server=server: peer(folder, PEERS[name], server, lines)
        found, failed = {name: [] for name in queues}, set()
        for _ in range(RUNS):
            for name, queue in queues.items():
                calm()
                try:
                    found[name].append(queue())
                    say(f"{name}: {found[name][-1]['per_second']:,.1f} tasks a second, other work {found[name][-1]['other']:.0f} %")
                except (Failure, OSError, subprocess.SubprocessError) as failure:
                    say(f"{name} failed: {failure}")
                    failed.add(name)
    print(f"| {tasks} tasks, median (range) | {' | '.join(queues)} |\n|---{'|---' * len(queues)}|")
    row = lambda title, text: print(f"| {title} | {' | '.join('failed' if name in failed else text(found[name]) for name in queues)} |")
    for member, (title, digits) in FIGURES.items():
        row(title, lambda runs: cell([one[member] for one in runs], digits))
    for name in KINDS.values():
        medians = lambda runs: [f"{statistics.median(values):,.0f}" for values in zip(*(one["lateness"][name] for one in runs))]
        row(f"{name}: due to start, to its end, p50 / p99, ms", lambda runs: "{} / {}, {} / {}".format(*medians(runs)))
    return bool(failed)
