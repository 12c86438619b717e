// BullMQ with Redis: a Fastify front that adds, a worker process. Done is a job in the completed set, which keeps all of them.

import { Queue, Worker } from 'bullmq';
import fastify from 'fastify';
import Redis from 'ioredis';

const connection = new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const handlers = { noop: async () => {} };

if (process.env.ROLE === 'worker') {
  new Worker('tasks', (job) => handlers[job.name](job.data), { connection, concurrency: 100 });
} else {
  const queue = new Queue('tasks', { connection });
  const front = fastify();
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
  await front.listen({ host: '127.0.0.1', port: Number(process.env.PORT) });
}
