package driftless.bench;

import java.util.Locale;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;

/** How far all threads have come together. */
final class Progress {
    private final long expected;
    private final AtomicLong processed = new AtomicLong();
    private final LongAdder winners = new LongAdder();
    private final CountDownLatch done = new CountDownLatch(1);
    private volatile long firstAt;

    Progress(long expected) {
        this.expected = expected;
    }

    void processed() {
        long count = processed.incrementAndGet();
        if (count == 1) {
            firstAt = System.nanoTime();
        }
        if (count == expected) {
            done.countDown();
        }
    }

    void won() {
        winners.increment();
    }

    void await() throws InterruptedException {
        done.await();
    }

    String json() {
        double seconds = (System.nanoTime() - firstAt) / 1e9;
        return String.format(
                Locale.ROOT, "{\"records\": %d, \"winners\": %d, \"seconds\": %.3f}", processed.get(), winners.sum(), seconds);
    }
}
