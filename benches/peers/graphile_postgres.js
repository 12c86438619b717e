// graphile-worker with PostgreSQL: a Fastify front that adds, a worker process.
//
// It deletes a job when it is done, and keeps one that failed: done is what the sequence of ids has given out, less the rows there
// are. `TUNED=1` takes its manual's advice for many small jobs: a local queue, and completions in batches.

import fastify from 'fastify';
import { makeWorkerUtils, run } from 'graphile-worker';
import pg from 'pg';

const pgPool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 20 });
const COUNTS = `select (select count(*) from graphile_worker._private_jobs)::int as waiting,
  coalesce(pg_sequence_last_value(pg_get_serial_sequence('graphile_worker._private_jobs', 'id')::regclass), 0)::int as added`;

if (process.env.ROLE === 'worker') {
  const worker = { concurrentJobs: 10, maxPoolSize: 20 };
  const tuned = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
  await run({
    preset: { worker: process.env.TUNED ? { ...worker, ...tuned } : worker },
    pgPool,
    taskList: { noop: async () => {} },
  });
} else {
  const jobs = await makeWorkerUtils({ pgPool });
  await jobs.migrate();
  const front = fastify();
  front.post('/submit', async ({ body }) => {
    const job = await jobs.addJob(body.task_name, body.payload);
    return { task_id: job.id };
  });
  front.post('/backlog/:count', async ({ body, params }) => {
    for (let left = Number(params.count); left > 0; left -= 1_000) {
      const some = Array.from({ length: Math.min(left, 1_000) }, () => ({ identifier: body.task_name, payload: body.payload }));
      await jobs.addJobs(some);
    }
    return {};
  });
  front.get('/counts', async () => {
    const [{ waiting, added }] = (await pgPool.query(COUNTS)).rows;
    return { waiting, done: added - waiting };
  });
  await front.listen({ host: '127.0.0.1', port: Number(process.env.PORT) });
}
