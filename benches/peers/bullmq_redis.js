// BullMQ with Redis: a Fastify front that adds, a worker process. Done is a job in the completed set, which keeps all of them.
// With SANDBOX, a file, jobs run in child processes, as many as CONCURRENCY says.

import { Queue, Worker } from 'bullmq';
import fastify from 'fastify';
import Redis from 'ioredis';
import { resolve } from 'node:path';

const connection = new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const handlers = { noop: async () => {} };

if (process.env.ROLE === 'worker') {
  const { SANDBOX, CONCURRENCY } = process.env;
  const handler = SANDBOX ? resolve(SANDBOX) : (job) => handlers[job.name](job.data);
  new Worker('tasks', handler, { connection, concurrency: Number(CONCURRENCY ?? 100) });
} else {
  const queue = new Queue('tasks', { connection });
  const front = fastify({ bodyLimit: 64 << 20 });
  front.addContentTypeParser('application/x-ndjson', { parseAs: 'string' }, async (_, text) =>
    text.trimEnd().split('\n').map((line) => JSON.parse(line)),
  );
  front.post('/submit', async ({ body }) => {
    const job = await queue.add(body.task_name, body.payload);
    return { task_id: job.id };
  });
  front.post('/backlog/:count', async ({ body, params }) => {
    for (let left = Number(params.count); left > 0; left -= 1_000) {
      const some = Array.from({ length: Math.min(left, 1_000) }, () => ({ name: body.task_name, data: body.payload }));
      await queue.addBulk(some);
    }
    return {};
  });
  front.get('/counts', async () => {
    const { completed, ...others } = await queue.getJobCounts();
    return { done: completed, waiting: Object.values(others).reduce((sum, count) => sum + count, 0) };
  });
  // A batch of lines, each a task.
  front.post('/batch', async ({ body }) => {
    await queue.addBulk(body.map(({ task_name, payload }) => ({ name: task_name, data: payload })));
    return {};
  });
  front.get('/ended', async () => {
    const { completed, failed } = await queue.getJobCounts('completed', 'failed');
    return completed + failed;
  });
  // Of each task that works: name, payload, start, end, whether it succeeded, attempts. Results are left where they are.
  front.get('/times', async () => {
    const ended = [];
    for (const set of ['completed', 'failed']) {
      const read = connection.pipeline();
      for (const id of await connection.zrange(queue.toKey(set), 0, -1)) {
        read.hmget(queue.toKey(id), 'name', 'data', 'processedOn', 'finishedOn', 'atm');
      }
      for (const [, [name, data, started, done, attempts]] of await read.exec()) {
        ended.push([name, JSON.parse(data), started / 1e3, done / 1e3, set === 'completed', Number(attempts)]);
      }
    }
    return ended.filter(([name]) => name !== 'noop');
  });
  await front.listen({ host: '127.0.0.1', port: Number(process.env.PORT) });
}
