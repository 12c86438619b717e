// BullMQ's sandboxed processor, of which each child process runs one at a time: the mix of work.

import { readFile } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';

const NEWLINE = 10;
const BURN_TURNS = 1_000;

const busy = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
};

const handlers = {
  noop: async () => {},
  burn: async ({ ms }) => {
    for (const end = busy() + ms; busy() < end; ) {
      for (let turn = 0; turn < BURN_TURNS; turn += 1);
    }
  },
  sleep: ({ ms }) => setTimeout(ms),
  read: async () => {
    let lines = 0;
    for (const byte of await readFile(process.env.SAMPLE)) lines += byte === NEWLINE ? 1 : 0;
    return lines;
  },
  give: async ({ bytes }) => 'a'.repeat(bytes),
};

export default (job) => handlers[job.name](job.data);
