#!/bin/sh
# Registers one delay-print job with redis-cli, and prints the id of its entry.
# The job is read from the standard input, so that no quote in it means anything to the shell.
exec redis-cli -e -u "${REDIS_URL:-redis://localhost:6379}" -x XADD 'jobqueue:{default}' '*' job <<'JOB'
{"type":"demo:delay_print","payload":{"message":"it's \"hello\" from redis-cli"},"delay_ms":1000}
JOB
