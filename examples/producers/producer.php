<?php
// Registers one delay-print job, and prints the id of its entry: producer.php MESSAGE DELAY_MS
$job = [
    'type' => 'demo:delay_print',
    'payload' => ['message' => $argv[1]],
    'delay_ms' => (int) $argv[2],
];

$url = parse_url(getenv('REDIS_URL') ?: 'redis://localhost:6379');
$client = new Redis();
$client->connect($url['host'], $url['port'] ?? 6379, 5, null, 0, 5);
$id = $client->xAdd('jobqueue:{default}', '*', ['job' => json_encode($job, JSON_THROW_ON_ERROR)]);
// Some errors of Redis, such as WRONGTYPE, are no exceptions here.
if ($id === false) {
    throw new RedisException($client->getLastError());
}
echo $id, PHP_EOL;
