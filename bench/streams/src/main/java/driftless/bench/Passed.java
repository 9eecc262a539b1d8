package driftless.bench;

import java.time.Instant;
import java.util.StringJoiner;

/**
 * When changes pass a place. Once in a second it prints a line of JSON: of what has passed meanwhile the stamp, whose counter
 * {@code bench/paced.py} fills with microseconds, and the time, both in Unix microseconds.
 */
final class Passed {
    private static final long TOLD_EVERY_MS = 1_000;

    private final String place;
    private StringJoiner pairs = pairs();

    Passed(String place) {
        this.place = place;
        Thread teller = new Thread(this::tell, "passed-" + place);
        teller.setDaemon(true);
        teller.start();
    }

    void note(long hlc) {
        Instant now = Instant.now();
        long at = now.getEpochSecond() * 1_000_000 + now.getNano() / 1_000;
        long stamp = (hlc >>> 16) * 1_000 + (hlc & 0xffff);
        synchronized (this) {
            pairs.add("[" + stamp + "," + at + "]");
        }
    }

    private void tell() {
        try {
            while (true) {
                Thread.sleep(TOLD_EVERY_MS);
                StringJoiner since = take();
                if (since.length() > 2) {
                    System.out.println("{\"place\": \"" + place + "\", \"passed\": " + since + "}");
                }
            }
        } catch (InterruptedException ended) {
            Thread.currentThread().interrupt();
        }
    }

    private synchronized StringJoiner take() {
        StringJoiner since = pairs;
        pairs = pairs();
        return since;
    }

    private static StringJoiner pairs() {
        return new StringJoiner(",", "[", "]");
    }
}
