"""Registers jobs with a client that was generated from the description (scripts/clients)."""

import sys

from dm_jobqueue_client import Client
from dm_jobqueue_client.api.jobqueue_demo import register_demo_job
from dm_jobqueue_client.models import Problem, Registered, Registration

client = Client(base_url=sys.argv[1])
for more in [{}, {"delay": "2m 30s"}, {"delay_seconds": 5}]:
    answer = register_demo_job.sync_detailed(client=client, body=Registration(message="hi", **more))
    assert answer.status_code == 201, answer
    assert isinstance(answer.parsed, Registered), answer
answer = register_demo_job.sync_detailed(client=client, body=Registration(delay_seconds=-1))
assert answer.status_code == 422 and isinstance(answer.parsed, Problem), answer
assert answer.parsed.errors[0].location == "body.delay_seconds", answer
print("openapi-python-client: ok")
