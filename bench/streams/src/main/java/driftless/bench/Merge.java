package driftless.bench;

import java.nio.ByteBuffer;
import org.apache.avro.util.Utf8;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Duplicates and losers end here, the greatest version takes the row and is forwarded. One processor for both, so that
 * the store is asked once for each change.
 *
 * <p>The store's value: flags, timestamp, sequence (big-endian), the length of the origin and the origin; behind it the
 * change itself, where the whole of it is kept.
 */
final class Merge implements Processor<Bytes, byte[], Bytes, byte[]> {
    static final String STORE = "versions";
    static final String SINK = "nowhere";
    static final String VECTORS = "vectors";

    private static final int FIXED_BYTES = 18;
    private static final byte TOMBSTONE = 1;

    private final ChangeDecoder decoder;
    private final Settings.Keep keep;
    private final Progress progress;
    private ProcessorContext<Bytes, byte[]> context;
    private KeyValueStore<Bytes, byte[]> versions;

    Merge(ChangeDecoder decoder, Settings.Keep keep, Progress progress) {
        this.decoder = decoder;
        this.keep = keep;
        this.progress = progress;
    }

    @Override
    public void init(ProcessorContext<Bytes, byte[]> context) {
        this.context = context;
        this.versions = context.getStateStore(STORE);
    }

    @Override
    public void process(Record<Bytes, byte[]> record) {
        byte[] value = record.value();
        Change change = decoder.header(value);
        if (change.op == Change.Op.HEARTBEAT) {
            return;
        }
        byte[] holder = versions.get(record.key());
        if (holder == null || compare(change, holder) > 0) {
            win(change, record);
        }
        progress.processed();
    }

    private void win(Change change, Record<Bytes, byte[]> record) {
        int dimension = decoder.dimension();
        if (change.op == Change.Op.UPSERT && dimension == 0) {
            throw new IllegalStateException("an upsert without a vector");
        }
        versions.put(record.key(), entry(change, keep == Settings.Keep.WHOLE ? record.value() : new byte[0]));
        if (keep == Settings.Keep.SPLIT) {
            context.forward(record, VECTORS);
        }
        context.forward(record, SINK);
    }

    private static byte[] entry(Change change, byte[] whole) {
        int originBytes = change.origin.getByteLength();
        byte[] entry = new byte[FIXED_BYTES + originBytes + whole.length];
        ByteBuffer.wrap(entry)
                .put(change.op == Change.Op.DELETE ? TOMBSTONE : 0)
                .putLong(change.timestamp)
                .putLong(change.sequence)
                .put((byte) originBytes)
                .put(change.origin.getBytes(), 0, originBytes)
                .put(whole);
        return entry;
    }

    /** By timestamp, then by the origin's bytes, then by the unsigned sequence. */
    private static int compare(Change change, byte[] holder) {
        ByteBuffer held = ByteBuffer.wrap(holder);
        int order = Long.compareUnsigned(change.timestamp, held.getLong(1));
        if (order == 0) {
            order = compareOrigins(change.origin, holder);
        }
        return order != 0 ? order : Long.compareUnsigned(change.sequence, held.getLong(9));
    }

    private static int compareOrigins(Utf8 origin, byte[] holder) {
        return java.util.Arrays.compareUnsigned(
                origin.getBytes(), 0, origin.getByteLength(), holder, FIXED_BYTES, FIXED_BYTES + (holder[17] & 0xff));
    }
}
