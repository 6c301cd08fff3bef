// Registers jobs with clients that were generated from the description (scripts/clients).

import assert from 'node:assert';
import createClient from 'openapi-fetch';
import { client } from './hey-api/client.gen.ts';
import * as heyApi from './hey-api/index.ts';
import * as orval from './orval/api.ts';
import type { paths } from './openapi-typescript.d.ts';

const url = process.argv[2];
client.setConfig({ baseUrl: url });
const fetchClient = createClient<paths>({ baseUrl: url });

type Body = { message: string; delay?: string; delay_seconds?: number };
type Result = { status: number; data: any };

const clients: Record<string, (body: Body) => Promise<Result>> = {
    'hey-api': async (body) => {
        const { data, error, response } = await heyApi.registerDemoJob({ body });
        return { status: response!.status, data: data ?? error };
    },
    orval: (body) => orval.registerDemoJob(body),
    'openapi-fetch': async (body) => {
        const result = await fetchClient.POST('/api/dm-jobqueue/register', { body });
        return { status: result.response.status, data: result.data ?? result.error };
    },
};

for (const [name, register] of Object.entries(clients)) {
    for (const more of [{}, { delay: '2m 30s' }, { delay_seconds: 5 }]) {
        const { status, data } = await register({ message: 'hi', ...more });
        assert.strictEqual(status, 201, `${name}: ${JSON.stringify(data)}`);
        assert.strictEqual(data.status, 'registered');
        assert.strictEqual(data.job_id.length, 36);
    }
    const { status, data } = await register({ message: 'hi', delay_seconds: -1 });
    assert.strictEqual(status, 422, name);
    assert.strictEqual(data.errors[0].location, 'body.delay_seconds');
    console.log(`${name}: ok`);
}
