//! How far a value of another writer's schema reaches: found by a walk over its lengths and counts, which allocates
//! nothing, before apache-avro reads the value.
//!
//! That library allocates what a length says (up to half a GiB) before it looks whether so much is there, and takes
//! the end of input for a null in places. A body that has been walked to its very end can do neither to it.

use super::AvroError;
use super::wire::Cursor;
use apache_avro::Schema;
use apache_avro::schema::Name;
use std::collections::HashMap;
use std::sync::Arc;

const FIELD: &str = "the writer's fields";
/// Values within one value, the items of lists and maps counted once.
const PARTS_MAX: usize = 100_000;
/// Values are read by recursion, as deep as their schema's references lead.
const DEPTH_MAX: usize = 64;

/// What of a schema decides how many bytes its values take.
#[derive(Debug)]
enum Shape {
    /// So many, always.
    Bytes(usize),
    /// A variable-length integer.
    Long,
    /// A length, and so many bytes.
    Text,
    /// An array, or a map: its items have keys.
    Blocks {
        keyed: bool,
        item: Arc<Extent>,
    },
    OneOf(Vec<Arc<Extent>>),
    All(Vec<Arc<Extent>>),
}

#[derive(Debug)]
pub(super) struct Extent {
    shape: Shape,
    size: Size,
}

/// What a schema comes to when its references are followed.
#[derive(Debug, Clone, Copy)]
struct Size {
    parts: usize,
    depth: usize,
}

impl Size {
    const ONE: Self = Self { parts: 1, depth: 1 };

    fn around(self, inner: Self) -> Result<Self, String> {
        let size = Self { parts: self.parts + inner.parts, depth: self.depth.max(inner.depth + 1) };
        if size.parts > PARTS_MAX {
            return Err(format!("comes to more than {PARTS_MAX} parts when its references are followed"));
        }
        if size.depth > DEPTH_MAX {
            return Err(format!("is nested more than {DEPTH_MAX} deep when its references are followed"));
        }
        Ok(size)
    }
}

impl Extent {
    /// Says why if values of the schema could be walked, or read, without an end in sight.
    pub(super) fn of(schema: &Schema) -> Result<Arc<Self>, String> {
        Builder::default().build(schema)
    }

    /// Is the content one value and nothing besides?
    pub(super) fn check(&self, content: &[u8]) -> Result<(), AvroError> {
        let mut cursor = Cursor::new(content, 0);
        self.walk(&mut cursor)?;
        cursor.end()
    }

    fn walk(&self, cursor: &mut Cursor<'_>) -> Result<(), AvroError> {
        match &self.shape {
            Shape::Bytes(count) => cursor.take(*count, FIELD).map(|_| ()),
            Shape::Long => cursor.long(FIELD).map(|_| ()),
            Shape::Text => walk_text(cursor),
            Shape::OneOf(variants) => {
                let index = cursor.long(FIELD)?;
                let variant = usize::try_from(index).ok().and_then(|index| variants.get(index));
                variant.ok_or(AvroError::NoSuchVariant { field: FIELD, index })?.walk(cursor)
            }
            Shape::All(fields) => fields.iter().try_for_each(|field| field.walk(cursor)),
            Shape::Blocks { keyed, item } => loop {
                let count = cursor.block(FIELD)?;
                if count == 0 {
                    return Ok(());
                }
                // Each item takes a byte at least: a count that is not there ends with the content.
                for _ in 0..count {
                    if *keyed {
                        walk_text(cursor)?;
                    }
                    item.walk(cursor)?;
                }
            },
        }
    }

    fn takes_no_bytes(&self) -> bool {
        matches!(self.shape, Shape::Bytes(0))
    }
}

fn walk_text(cursor: &mut Cursor<'_>) -> Result<(), AvroError> {
    let length = usize::try_from(cursor.long(FIELD)?).map_err(|_| AvroError::NegativeLength(FIELD))?;
    cursor.take(length, FIELD).map(|_| ())
}

#[derive(Default)]
struct Builder {
    /// The named types so far; `None` while one is being built.
    named: HashMap<Name, Option<Arc<Extent>>>,
}

impl Builder {
    fn build(&mut self, schema: &Schema) -> Result<Arc<Extent>, String> {
        let (shape, size) = match schema {
            Schema::Null => (Shape::Bytes(0), Size::ONE),
            Schema::Boolean => (Shape::Bytes(1), Size::ONE),
            Schema::Float => (Shape::Bytes(4), Size::ONE),
            Schema::Double => (Shape::Bytes(8), Size::ONE),
            Schema::Int | Schema::Long => (Shape::Long, Size::ONE),
            Schema::Bytes | Schema::String => (Shape::Text, Size::ONE),
            Schema::Enum(named) => return Ok(self.define(&named.name, Shape::Long, Size::ONE)),
            Schema::Fixed(named) => return Ok(self.define(&named.name, Shape::Bytes(named.size), Size::ONE)),
            Schema::Array(array) => self.blocks(&array.items, false)?,
            Schema::Map(map) => self.blocks(&map.types, true)?,
            Schema::Union(union) => {
                let (variants, size) = self.build_all(union.variants())?;
                (Shape::OneOf(variants), size)
            }
            Schema::Record(record) => {
                self.named.insert(record.name.clone(), None);
                let (fields, size) = self.build_all(record.fields.iter().map(|field| &field.schema))?;
                let shape = if fields.iter().all(|field| field.takes_no_bytes()) { Shape::Bytes(0) } else { Shape::All(fields) };
                return Ok(self.define(&record.name, shape, size));
            }
            Schema::Ref { name } => return self.referred(name),
            // Logical types have been dropped before.
            other => return Err(format!("has a type that is not known here: {other:?}")),
        };
        Ok(Arc::new(Extent { shape, size }))
    }

    fn define(&mut self, name: &Name, shape: Shape, size: Size) -> Arc<Extent> {
        let extent = Arc::new(Extent { shape, size });
        self.named.insert(name.clone(), Some(extent.clone()));
        extent
    }

    /// A record within itself would be read by recursion, as deep as the bytes say.
    fn referred(&self, name: &Name) -> Result<Arc<Extent>, String> {
        match self.named.get(name) {
            Some(Some(extent)) => Ok(extent.clone()),
            Some(None) => Err("refers to itself".to_owned()),
            None => Err(format!("refers to {name:?}, which it does not have")),
        }
    }

    fn blocks(&mut self, items: &Schema, keyed: bool) -> Result<(Shape, Size), String> {
        let item = self.build(items)?;
        if item.takes_no_bytes() && !keyed {
            return Err("has a list whose items take no bytes: a count alone would fill the memory".to_owned());
        }
        let size = Size::ONE.around(item.size)?;
        Ok((Shape::Blocks { keyed, item }, size))
    }

    fn build_all<'s>(&mut self, schemas: impl IntoIterator<Item = &'s Schema>) -> Result<(Vec<Arc<Extent>>, Size), String> {
        let mut extents = Vec::new();
        let mut size = Size::ONE;
        for schema in schemas {
            let extent = self.build(schema)?;
            size = size.around(extent.size)?;
            extents.push(extent);
        }
        Ok((extents, size))
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{put_long, put_text};
    use super::*;

    fn extent(schema: serde_json::Value) -> Result<Arc<Extent>, String> {
        Extent::of(&Schema::parse_str(&schema.to_string()).expect("good Avro"))
    }

    #[test]
    fn a_value_ends_where_its_last_byte_is() {
        let schema = serde_json::json!({"type": "record", "name": "r", "fields": [
            {"name": "a", "type": ["null", "string"]},
            {"name": "b", "type": {"type": "map", "values": {"type": "fixed", "name": "f", "size": 2}}},
            {"name": "c", "type": {"type": "array", "items": "f"}},
        ]});
        let extent = extent(schema).unwrap();
        let mut value = Vec::new();
        put_long(&mut value, 1);
        put_text(&mut value, "text");
        put_long(&mut value, 1);
        put_text(&mut value, "key");
        value.extend(b"ab\x00");
        put_long(&mut value, -2);
        put_long(&mut value, 4);
        value.extend(b"abcd\x00");
        assert_eq!(extent.check(&value), Ok(()));
        for length in 0..value.len() {
            assert_eq!(extent.check(&value[..length]), Err(AvroError::Truncated(FIELD)), "{length}");
        }
        value.push(0);
        assert_eq!(extent.check(&value), Err(AvroError::LeftOver(1)));
    }

    #[test]
    fn a_schema_whose_values_have_no_end_in_sight_is_refused() {
        let refused = |schema| extent(schema).unwrap_err();
        let nulls = serde_json::json!({"type": "array", "items": "null"});
        assert!(refused(nulls).contains("take no bytes"));
        let itself = serde_json::json!({"type": "record", "name": "n", "namespace": "x", "fields": [{"name": "a", "type": ["null", "n"]}]});
        assert!(refused(itself).contains("refers to itself"));
        assert!(refused(chain(20, 4)).contains("parts"));
        assert!(refused(chain(80, 1)).contains("deep"));
        assert!(extent(chain(60, 1)).is_ok());
    }

    /// A union of records, each of which holds the one before it so many times.
    fn chain(length: usize, times: usize) -> serde_json::Value {
        let mut records = vec![serde_json::json!({"type": "record", "name": "r0", "fields": [{"name": "a", "type": "int"}]})];
        for place in 1..length {
            let before = format!("r{}", place - 1);
            let fields: Vec<_> =
                (0..times).map(|field| serde_json::json!({"name": format!("f{field}"), "type": before})).collect();
            records.push(serde_json::json!({"type": "record", "name": format!("r{place}"), "fields": fields}));
        }
        records.into()
    }
}
