package driftless.bench;

import java.util.Locale;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.streams.processor.StateRestoreListener;

/** Prints how long each partition's restore took, once it has ended. */
final class RestoreWatch implements StateRestoreListener {
    private final long startedAt = System.nanoTime();

    @Override
    public void onRestoreStart(TopicPartition partition, String store, long from, long to) {
    }

    @Override
    public void onBatchRestored(TopicPartition partition, String store, long end, long count) {
    }

    @Override
    public void onRestoreEnd(TopicPartition partition, String store, long total) {
        double seconds = (System.nanoTime() - startedAt) / 1e9;
        System.out.printf(
                Locale.ROOT, "{\"restored\": %d, \"partition\": %d, \"seconds\": %.3f}%n", total, partition.partition(), seconds);
    }
}
