"""Procrastinate with PostgreSQL: a FastAPI front that defers, one asyncio worker. Done is a job whose row says `succeeded`."""

import asyncio
import os
from contextlib import asynccontextmanager

from procrastinate import App, PsycopgConnector

app = App(connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"], min_size=4, max_size=20))

COUNTS = """select count(*) filter (where status = 'succeeded') as done,
                   count(*) filter (where status <> 'succeeded') as waiting
            from procrastinate_jobs"""


@app.task(name="noop")
async def noop(payload):
    return None


async def work():
    async with app.open_async():
        await app.run_worker_async(concurrency=50)


if os.environ["ROLE"] == "worker":
    asyncio.run(work())
else:
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Submission(BaseModel):
        task_name: str
        payload: dict

    @asynccontextmanager
    async def lifespan(_):
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            yield

    front = FastAPI(lifespan=lifespan)

    @front.post("/submit")
    async def submit(task: Submission):
        return {"task_id": await app.tasks[task.task_name].defer_async(payload=task.payload)}

    @front.post("/backlog/{count}")
    async def backlog(count: int, task: Submission):
        for done in range(0, count, 1_000):
            await app.tasks[task.task_name].batch_defer_async(*[{"payload": task.payload}] * min(count - done, 1_000))
        return {}

    @front.get("/counts")
    async def counts():
        return await app.connector.execute_query_one_async(COUNTS)
