"""Registers one delay-print job, and prints the id of its entry: producer.py MESSAGE DELAY_MS"""

import json
import os
import sys

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

message, delay_ms = sys.argv[1], int(sys.argv[2])
job = {"type": "demo:delay_print", "payload": {"message": message}, "delay_ms": delay_ms}

# Without retries of its own: redis.Redis() repeats an XADD whose reply was lost.
client = redis.Redis.from_url(
    os.environ.get("REDIS_URL", "redis://localhost:6379"),
    decode_responses=True,
    socket_timeout=5,
    retry=Retry(NoBackoff(), 0),
)
print(client.xadd("jobqueue:{default}", {"job": json.dumps(job, allow_nan=False)}))
