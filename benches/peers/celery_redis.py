"""Celery with Redis: a FastAPI front that sends, a prefork worker that runs and keeps a result of each task.

Done is a stored result. The front has no result backend, since it waits for none: with one, every send would subscribe to the
result first, which only costs Celery time.
"""

import os

from celery import Celery

REDIS = os.environ["REDIS_URL"]
FRONT = os.environ["ROLE"] == "front"

app = Celery("celery_redis", broker=f"{REDIS}/0", backend=None if FRONT else f"{REDIS}/1")
app.conf.update(
    task_acks_late=True,
    task_ignore_result=False,
    worker_prefetch_multiplier=64,
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop(payload):
    return None


if FRONT:
    import redis
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Submission(BaseModel):
        task_name: str
        payload: dict

    front = FastAPI()
    broker, results = redis.Redis.from_url(f"{REDIS}/0"), redis.Redis.from_url(f"{REDIS}/1")

    # Celery's client blocks, so this is no coroutine: FastAPI runs it on its threads.
    @front.post("/submit")
    def submit(task: Submission):
        return {"task_id": app.tasks[task.task_name].apply_async((task.payload,)).id}

    @front.post("/backlog/{count}")
    def backlog(count: int, task: Submission):
        # Filling is not measured: the log need not be synced for each of these.
        broker.config_set("appendfsync", "no")
        with app.producer_pool.acquire() as producer:
            for _ in range(count):
                app.tasks[task.task_name].apply_async((task.payload,), producer=producer)
        broker.config_set("appendfsync", "always")
        return {}

    @front.get("/counts")
    def counts():
        return {"waiting": broker.llen("celery") + broker.hlen("unacked"), "done": results.dbsize()}
