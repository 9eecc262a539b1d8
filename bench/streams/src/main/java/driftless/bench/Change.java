package driftless.bench;

import org.apache.avro.util.Utf8;

/** The header of a change; one instance is filled again and again. */
final class Change {
    enum Op { UPSERT, DELETE, HEARTBEAT }

    private static final Op[] OPS = Op.values();

    Op op;
    long timestamp;
    Utf8 origin;
    long sequence;

    static Op op(int index) {
        return OPS[index];
    }
}
