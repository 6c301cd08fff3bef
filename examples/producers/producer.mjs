// Registers one delay-print job, and prints the id of its entry: producer.mjs MESSAGE DELAY_MS
import { createClient } from 'redis';

const [message, delayMs] = process.argv.slice(2);
const job = { type: 'demo:delay_print', payload: { message }, delay_ms: Number(delayMs) };

// Without reconnecting: by default it waits for a Redis that is away, without an end.
const client = createClient({
  url: process.env.REDIS_URL ?? 'redis://localhost:6379',
  socket: { connectTimeout: 5000, socketTimeout: 5000, reconnectStrategy: false },
});
client.on('error', () => {}); // The call below fails with the same error.
await client.connect();
try {
  console.log(await client.xAdd('jobqueue:{default}', '*', { job: JSON.stringify(job) }));
} finally {
  client.destroy();
}
