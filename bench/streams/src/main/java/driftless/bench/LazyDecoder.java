package driftless.bench;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.util.Utf8;

/**
 * By hand, in the order of our own schema's fields: what whoever knows that schema and has found the generic reader in
 * a profile writes. Strings keep their memory, floats are read as one block of bytes.
 */
final class LazyDecoder implements ChangeDecoder {
    private final Change change = new Change();
    private final Utf8 collection = new Utf8(), vectorId = new Utf8();
    private final Utf8 origin = new Utf8();
    private BinaryDecoder decoder;
    private byte[] floats = new byte[0];
    private float[] vector = new float[0];

    @Override
    public Change header(byte[] value) {
        ChangeDecoder.schemaId(value);
        decoder = DecoderFactory.get().binaryDecoder(value, BODY_AT, value.length - BODY_AT, decoder);
        try {
            change.op = Change.op(decoder.readEnum());
            change.timestamp = decoder.readLong();
            change.origin = decoder.readString(origin);
            change.sequence = decoder.readLong();
            decoder.readString(collection);
            decoder.readString(vectorId);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return change;
    }

    @Override
    public int dimension() {
        try {
            int dimension = 0;
            for (int count = (int) decoder.readArrayStart(); count != 0; count = (int) decoder.arrayNext()) {
                readFloats(dimension, count);
                dimension += count;
            }
            readMetadata();
            return dimension;
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private void readFloats(int at, int count) throws IOException {
        if (vector.length < at + count) {
            vector = java.util.Arrays.copyOf(vector, at + count);
            floats = new byte[4 * (at + count)];
        }
        decoder.readFixed(floats, 0, 4 * count);
        ByteBuffer.wrap(floats, 0, 4 * count).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(vector, at, count);
    }

    private void readMetadata() throws IOException {
        for (long count = decoder.readMapStart(); count != 0; count = decoder.mapNext()) {
            for (long entry = 0; entry < count; entry++) {
                decoder.skipString();
                switch (decoder.readIndex()) {
                    case 0 -> decoder.readNull();
                    case 1 -> decoder.readBoolean();
                    case 2 -> decoder.readLong();
                    case 3 -> decoder.readDouble();
                    default -> decoder.skipString();
                }
            }
        }
    }
}
