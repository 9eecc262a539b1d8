package driftless.bench;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Collection;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.util.Utf8;

/** With Avro's generic reader, whose decoder and record are used again; field positions are looked up once. */
final class GenericDecoder implements ChangeDecoder {
    private final Schemas schemas;
    private final Change change = new Change();
    private int schemaId = -1;
    private GenericDatumReader<GenericRecord> reader;
    private int op, timestamp, origin, sequence, vector;
    private BinaryDecoder decoder;
    private GenericRecord body;

    GenericDecoder(Schemas schemas) {
        this.schemas = schemas;
    }

    @Override
    public Change header(byte[] value) {
        int id = ChangeDecoder.schemaId(value);
        if (id != schemaId) {
            use(id);
        }
        decoder = DecoderFactory.get().binaryDecoder(value, BODY_AT, value.length - BODY_AT, decoder);
        try {
            body = reader.read(body, decoder);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        change.op = Change.Op.valueOf(body.get(op).toString());
        change.timestamp = (Long) body.get(timestamp);
        change.origin = (Utf8) body.get(origin);
        change.sequence = (Long) body.get(sequence);
        return change;
    }

    private void use(int id) {
        Schema schema = schemas.get(id);
        reader = new GenericDatumReader<>(schema);
        body = null;
        op = schema.getField("op").pos();
        timestamp = schema.getField("timestamp").pos();
        origin = schema.getField("origin").pos();
        sequence = schema.getField("sequence").pos();
        vector = schema.getField("vector").pos();
        schemaId = id;
    }

    @Override
    public int dimension() {
        return ((Collection<?>) body.get(vector)).size();
    }
}
