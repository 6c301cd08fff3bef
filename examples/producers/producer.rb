# Registers one delay-print job, and prints the id of its entry: producer.rb MESSAGE DELAY_MS
require 'json'
require 'redis'

message, delay_ms = ARGV[0], Integer(ARGV[1])
job = { type: 'demo:delay_print', payload: { message: message }, delay_ms: delay_ms }

# Without retries of its own: the client would repeat an XADD whose reply was lost.
client = Redis.new(
  url: ENV.fetch('REDIS_URL', 'redis://localhost:6379'),
  timeout: 5,
  reconnect_attempts: 0
)
puts client.xadd('jobqueue:{default}', { 'job' => JSON.generate(job) })
