// Registers one delay-print job, and prints the id of its entry: producer MESSAGE DELAY_MS
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/redis/go-redis/v9"
)

type printPayload struct {
	Message string `json:"message"`
}

type printJob struct {
	Type    string       `json:"type"`
	Payload printPayload `json:"payload"`
	DelayMs int64        `json:"delay_ms"`
}

func main() {
	delayMs, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	job, err := json.Marshal(printJob{"demo:delay_print", printPayload{os.Args[1]}, delayMs})
	if err != nil {
		log.Fatal(err)
	}
	options, err := redis.ParseURL(cmp.Or(os.Getenv("REDIS_URL"), "redis://localhost:6379"))
	if err != nil {
		log.Fatal(err)
	}
	// Without retries of its own: the client would repeat an XADD whose reply was lost.
	options.MaxRetries = -1
	client := redis.NewClient(options)
	defer client.Close()
	id, err := client.XAdd(context.Background(), &redis.XAddArgs{
		Stream: "jobqueue:{default}",
		Values: []any{"job", job},
	}).Result()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(id)
}
