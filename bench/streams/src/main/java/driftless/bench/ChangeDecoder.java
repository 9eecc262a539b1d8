package driftless.bench;

/** Reads changes in Confluent's framing: a zero byte, the schema's id, the Avro body. Not for several threads. */
interface ChangeDecoder {
    int BODY_AT = 5;

    /** Fills and returns the same instance each time. */
    Change header(byte[] value);

    /** The floats of the change whose header was read last. */
    int dimension();

    static int schemaId(byte[] value) {
        if (value.length < BODY_AT || value[0] != 0) {
            throw new IllegalArgumentException("not in Confluent's framing");
        }
        return (value[1] & 0xff) << 24 | (value[2] & 0xff) << 16 | (value[3] & 0xff) << 8 | value[4] & 0xff;
    }
}
