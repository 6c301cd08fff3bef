import com.google.gson.Gson;
import java.net.URI;
import java.util.Map;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.StreamEntryID;

/** Registers one delay-print job, and prints the id of its entry: Producer MESSAGE DELAY_MS */
public class Producer {
    public static void main(String[] args) {
        var job = Map.of(
            "type", "demo:delay_print",
            "payload", Map.of("message", args[0]),
            "delay_ms", Long.parseLong(args[1]));
        var url = System.getenv().getOrDefault("REDIS_URL", "redis://localhost:6379");
        // A Jedis has one connection and never repeats a command.
        try (var client = new Jedis(URI.create(url), 5000)) {
            var fields = Map.of("job", new Gson().toJson(job));
            System.out.println(client.xadd("jobqueue:{default}", StreamEntryID.NEW_ENTRY, fields));
        }
    }
}
