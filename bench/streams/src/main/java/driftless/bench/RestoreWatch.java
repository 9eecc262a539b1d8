package driftless.bench;

import java.util.Locale;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.streams.processor.StateRestoreListener;

/** Prints how long each partition's restore took, from its beginning to its end. */
final class RestoreWatch implements StateRestoreListener {
    private final Map<TopicPartition, Long> begun = new ConcurrentHashMap<>();

    @Override
    public void onRestoreStart(TopicPartition partition, String store, long from, long to) {
        begun.put(partition, System.nanoTime());
    }

    @Override
    public void onBatchRestored(TopicPartition partition, String store, long end, long count) {
    }

    @Override
    public void onRestoreEnd(TopicPartition partition, String store, long total) {
        double seconds = (System.nanoTime() - begun.get(partition)) / 1e9;
        System.out.printf(
                Locale.ROOT, "{\"restored\": %d, \"partition\": %d, \"seconds\": %.3f}%n", total, partition.partition(), seconds);
    }
}
