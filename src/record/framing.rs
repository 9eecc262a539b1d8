//! Tells a value's encoding by its first byte: Confluent's Avro framing (0x00, the schema's id as four
//! big-endian bytes, the body) or plain JSON (`{`).

use crate::record::reason::{Reason, Rejection};

const AVRO_MAGIC: u8 = 0;
const AVRO_PREFIX_BYTES: usize = 5;

/// What a value is, and where its content begins. The content is what the content hash covers: an Avro body
/// without its framing (schema ids differ between registries), or the whole of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Avro { schema_id: u32, content_at: usize },
    Json,
}

/// Looks at the first bytes only.
pub fn framing(value: &[u8]) -> Result<Framing, Rejection> {
    match value {
        [AVRO_MAGIC, a, b, c, d, ..] => {
            Ok(Framing::Avro { schema_id: u32::from_be_bytes([*a, *b, *c, *d]), content_at: AVRO_PREFIX_BYTES })
        }
        [b'{', ..] => Ok(Framing::Json),
        [] => Err(malformed("the value is empty".to_owned())),
        [AVRO_MAGIC, ..] => Err(malformed(format!("the Avro framing is cut short: {} of 5 bytes", value.len()))),
        [first, ..] => Err(malformed(format!("the first byte is 0x{first:02x}, neither 0x00 (framed Avro) nor `{{` (JSON)"))),
    }
}

/// Puts Confluent's framing before an Avro body.
pub fn frame(schema_id: u32, body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(AVRO_PREFIX_BYTES + body.len());
    value.push(AVRO_MAGIC);
    value.extend_from_slice(&schema_id.to_be_bytes());
    value.extend_from_slice(body);
    value
}

fn malformed(detail: String) -> Rejection {
    Rejection::new(Reason::Malformed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_framed_body_is_found_again() {
        let value = frame(0x0102_0304, b"body");
        assert_eq!(framing(&value), Ok(Framing::Avro { schema_id: 0x0102_0304, content_at: 5 }));
        assert_eq!(&value[5..], b"body");
        assert_eq!(framing(br#"{"type":1}"#), Ok(Framing::Json));
    }

    #[test]
    fn anything_else_is_malformed() {
        for value in [&b""[..], b"\x00", b"\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01body", b" {}", b"[]"] {
            assert_eq!(framing(value).unwrap_err().reason, Reason::Malformed, "{value:?}");
        }
    }
}
