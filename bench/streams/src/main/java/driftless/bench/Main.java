package driftless.bench;

import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.state.KeyValueBytesStoreSupplier;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * Prints a JSON line once all records are processed, and one for each restored partition; where it is asked to, when each
 * change was forwarded. Runs until it is ended.
 */
public final class Main {
    private static final String COMMIT_INTERVAL_MS = "100";

    private Main() {
    }

    public static void main(String[] arguments) throws InterruptedException {
        Settings settings = Settings.parse(arguments);
        Progress progress = new Progress(settings.records());
        KafkaStreams streams = new KafkaStreams(topology(settings, progress), properties(settings));
        streams.setGlobalStateRestoreListener(new RestoreWatch());
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        progress.await();
        System.out.println(progress.json());
        Thread.currentThread().join();
    }

    private static Topology topology(Settings settings, Progress progress) {
        Schemas schemas = new Schemas(settings.registry());
        Topology topology = new Topology();
        topology.addSource("changes", Serdes.Bytes().deserializer(), Serdes.ByteArray().deserializer(), settings.input());
        topology.addProcessor(
                "lww_merge", () -> new Merge(decoder(settings, schemas), settings.keep(), progress), "changes");
        topology.addStateStore(store(settings), "lww_merge");
        topology.addProcessor(Merge.SINK, sink(settings, progress), "lww_merge");
        if (settings.keep() == Settings.Keep.SPLIT) {
            topology.addSink(
                    Merge.VECTORS, settings.vectorsTopic(), Serdes.Bytes().serializer(), Serdes.ByteArray().serializer(),
                    "lww_merge");
        }
        return topology;
    }

    /** It counts changes, or tells when they came to it. */
    private static ProcessorSupplier<Bytes, byte[], Void, Void> sink(Settings settings, Progress progress) {
        if (!settings.passing()) {
            return () -> record -> progress.won();
        }
        Passed passed = new Passed(Merge.SINK);
        return () -> {
            ChangeDecoder decoder = new LazyDecoder();
            return record -> passed.note(decoder.header(record.value()).timestamp);
        };
    }

    private static ChangeDecoder decoder(Settings settings, Schemas schemas) {
        return settings.decode() == Settings.Decode.LAZY ? new LazyDecoder() : new GenericDecoder(schemas);
    }

    private static StoreBuilder<KeyValueStore<Bytes, byte[]>> store(Settings settings) {
        KeyValueBytesStoreSupplier supplier =
                settings.onDisk() ? Stores.persistentKeyValueStore(Merge.STORE) : Stores.inMemoryKeyValueStore(Merge.STORE);
        return Stores.keyValueStoreBuilder(supplier, Serdes.Bytes(), Serdes.ByteArray())
                .withCachingDisabled()
                .withLoggingEnabled(Map.of());
    }

    /** The settings found best: no record cache at this commit interval, and batches as large as ours. */
    private static Properties properties(Settings settings) {
        Properties properties = new Properties();
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, settings.application());
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, settings.bootstrap());
        properties.put(StreamsConfig.STATE_DIR_CONFIG, settings.stateDir());
        properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, settings.threads());
        properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
        properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, COMMIT_INTERVAL_MS);
        properties.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, "0");
        properties.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, "-1");
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        properties.put(StreamsConfig.mainConsumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), "4194304");
        properties.put(StreamsConfig.restoreConsumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), "4194304");
        properties.put(StreamsConfig.restoreConsumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), "5000");
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), "262144");
        return properties;
    }
}
