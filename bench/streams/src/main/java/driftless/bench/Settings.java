package driftless.bench;

import java.util.HashMap;
import java.util.Map;

/** The command line: {@code --name value} pairs. */
record Settings(
        String bootstrap, String application, String registry, String input, String stateDir,
        int threads, Keep keep, boolean onDisk, Decode decode, long records, boolean passing) {

    /** What the changelog keeps of a winner. */
    enum Keep {
        /** The version and the whole change, as the store's value. */
        WHOLE,
        /** The version, as the store's value; the whole change goes to a compacted topic beside it. */
        SPLIT,
        /** The version alone. */
        METADATA
    }

    enum Decode {
        /** Avro's generic reader, all of every change. */
        GENERIC,
        /** By hand: the header first, vector and metadata of winners only. */
        LAZY
    }

    static Settings parse(String[] arguments) {
        Map<String, String> given = new HashMap<>();
        for (int at = 0; at + 1 < arguments.length; at += 2) {
            given.put(arguments[at], arguments[at + 1]);
        }
        return new Settings(
                require(given, "--bootstrap"), require(given, "--application"), require(given, "--registry"),
                require(given, "--input"), require(given, "--state-dir"),
                Integer.parseInt(given.getOrDefault("--threads", "1")),
                Keep.valueOf(given.getOrDefault("--keep", "whole").toUpperCase()),
                given.getOrDefault("--store", "rocksdb").equals("rocksdb"),
                Decode.valueOf(given.getOrDefault("--decode", "generic").toUpperCase()),
                Long.parseLong(given.getOrDefault("--records", "0")),
                Boolean.parseBoolean(given.get("--passing")));
    }

    private static String require(Map<String, String> given, String name) {
        String value = given.get(name);
        if (value == null) {
            throw new IllegalArgumentException(name + " VALUE is missing");
        }
        return value;
    }

    /** Beside the store's changelog, which Kafka Streams names like this too. */
    String vectorsTopic() {
        return application + "-vectors-changelog";
    }
}
