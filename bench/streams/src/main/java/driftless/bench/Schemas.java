package driftless.bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.HashMap;
import java.util.Map;
import org.apache.avro.Schema;

/** Writer schemas by id, each asked for once. */
final class Schemas {
    private final String registry;
    private final Map<Integer, Schema> known = new HashMap<>();

    Schemas(String registry) {
        this.registry = registry;
    }

    /** Each stream thread asks once. */
    synchronized Schema get(int id) {
        return known.computeIfAbsent(id, this::fetch);
    }

    private Schema fetch(int id) {
        HttpRequest request = HttpRequest.newBuilder(URI.create(registry + "/schemas/ids/" + id)).build();
        try {
            HttpResponse<String> reply = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
            if (reply.statusCode() != 200) {
                throw new IllegalStateException("schema " + id + ": " + reply.statusCode() + " " + reply.body());
            }
            return new Schema.Parser().parse(new ObjectMapper().readTree(reply.body()).get("schema").asText());
        } catch (IOException error) {
            throw new IllegalStateException("schema " + id + " from " + registry, error);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException(error);
        }
    }
}
