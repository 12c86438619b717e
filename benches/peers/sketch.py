"""The sketch that Taskhost was ordered from, as the least that does the same: FastAPI, a priority queue in memory, asyncio workers.

Nothing is kept: what waits when the process ends is lost. Front and workers are one process, as there; `POST /work` starts the
workers, so that the other measures find them asleep.
"""

import asyncio
import itertools
import time

from fastapi import FastAPI
from pydantic import BaseModel

WORKERS = 10


class Submission(BaseModel):
    task_name: str
    payload: dict
    priority: int = 5


async def noop(payload):
    return None


handlers = {"noop": noop}
queue = asyncio.PriorityQueue()
numbers = itertools.count()
running, workers = {}, []
done = 0


def enqueue(task):
    number = next(numbers)
    queue.put_nowait((time.time(), task.priority, number, task))
    return number


async def work():
    global done
    while True:
        _, _, number, task = await queue.get()
        # A task of its own for each attempt, so that it could be cancelled and be timed out.
        running[number] = asyncio.create_task(handlers[task.task_name](task.payload))
        try:
            await asyncio.wait_for(running[number], timeout=300)
        finally:
            del running[number]
        done += 1


front = FastAPI()


@front.post("/submit")
async def submit(task: Submission):
    return {"task_id": enqueue(task)}


@front.post("/backlog/{count}")
async def backlog(count: int, task: Submission):
    for _ in range(count):
        enqueue(task)
    return {}


@front.post("/work")
async def start():
    workers.extend(asyncio.create_task(work()) for _ in range(WORKERS))
    return {}


@front.get("/counts")
async def counts():
    return {"waiting": queue.qsize() + len(running), "done": done}
