"""Celery with tasks that work: the recipe of celery_redis.py, a batch at once, and a line of a log for each task that ended.

The log is written once the result is stored, by the process that ran the task: Celery itself keeps no time of a start.
"""

import json
import os
import time

from celery.signals import task_postrun, task_prerun

import celery_redis
from celery_redis import FRONT, app

BURN_TURNS = 1_000


@app.task(name="burn")
def burn(payload):
    end = time.process_time() + payload["ms"] / 1e3
    while time.process_time() < end:
        for _ in range(BURN_TURNS):
            pass


@app.task(name="sleep")
def sleep(payload):
    time.sleep(payload["ms"] / 1e3)


@app.task(name="read")
def read(payload):
    with open(os.environ["SAMPLE"], "rb") as file:
        return file.read().count(b"\n")


@app.task(name="give")
def give(payload):
    return "a" * payload["bytes"]


if not FRONT:
    log = os.open(os.environ["WORK_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    started = {}

    @task_prerun.connect
    def begins(task_id, **_):
        started[task_id] = time.time()

    @task_postrun.connect
    def ends(task_id, task, args, state, **_):
        line = [task.name, args[0], started.pop(task_id), time.time(), state == "SUCCESS", task.request.retries + 1]
        if task.name != "noop":
            os.write(log, (json.dumps(line) + "\n").encode())

else:
    from fastapi import Request

    front = celery_redis.front

    @front.post("/batch")
    async def batch(request: Request):
        lines = (await request.body()).decode().splitlines()
        with app.producer_pool.acquire() as producer:
            for task in map(json.loads, lines):
                app.tasks[task["task_name"]].apply_async((task["payload"],), producer=producer)
        return {}

    @front.get("/ended")
    def ended():
        return celery_redis.results.dbsize()

    @front.get("/times")
    def times():
        with open(os.environ["WORK_LOG"]) as file:
            return [json.loads(line) for line in file]
