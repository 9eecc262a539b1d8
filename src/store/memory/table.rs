//! The rows of one collection: an index from the key's hash to a slot, and the slots themselves.
//!
//! Slots lie in segments that never move and are never given back; a freed slot is the next one taken. The
//! index is cut into shards by the hash, each a hash table of its own, so that it grows in many small steps: no put
//! ever moves more than a 128th of it. The largest shard is twice as wide as the smallest, with all sizes between, so
//! that they don't all double at the same number of keys: at every number some are full and some half empty.

use super::slot::Packed;
use crate::base::ids::VectorId;
use crate::record::collection::IdKind;
use hashbrown::HashTable;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

const SHARDS: usize = 256;
/// Slices of the hash, dealt out to the shards by their widths.
const SLICES: usize = 1 << 14;
const SEGMENT_SLOTS: usize = 1024;

pub(super) struct Table {
    kind: IdKind,
    shards: Vec<HashTable<u32>>,
    /// The shard of each slice.
    widths: Box<[u8]>,
    segments: Vec<Segment>,
    /// How many slots were ever taken; the ones from here on are new.
    taken: u32,
    free: Vec<u32>,
    text_bytes: usize,
}

struct Segment {
    slots: Box<[Slot]>,
    /// The ids' texts; empty but in a collection of text ids.
    texts: Box<[Box<str>]>,
}

/// 48 bytes. The key is the UUID's bits, the int64's, or the text's hash.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u128,
    packed: Packed,
}

impl Table {
    pub(super) fn new(kind: IdKind) -> Self {
        let shards = (0..SHARDS).map(|_| HashTable::new()).collect();
        Self { kind, shards, widths: widths(), segments: Vec::new(), taken: 0, free: Vec::new(), text_bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.taken as usize - self.free.len()
    }

    pub(super) fn get(&self, id: &VectorId) -> Option<&Packed> {
        let key = key_of(id);
        self.find(id, key, hash_of(key)).map(|slot| &self.slot(slot).packed)
    }

    /// Where it lies now, and what lay there before under the same id; none if that was to stay.
    pub(super) fn put_unless(
        &mut self,
        id: &VectorId,
        packed: Packed,
        stays: impl FnOnce(&Packed) -> bool,
    ) -> Option<(u32, Option<Packed>)> {
        let key = key_of(id);
        let hash = hash_of(key);
        if let Some(slot) = self.find(id, key, hash) {
            let held = &mut self.slot_mut(slot).packed;
            return (!stays(held)).then(|| (slot, Some(std::mem::replace(held, packed))));
        }
        Some((self.insert(id, key, hash, packed), None))
    }

    fn insert(&mut self, id: &VectorId, key: u128, hash: u64, packed: Packed) -> u32 {
        let slot = self.take_slot();
        *self.slot_mut(slot) = Slot { key, packed };
        if let VectorId::Text(text) = id {
            self.text_bytes += heap_bytes(text);
            *self.text_mut(slot) = text.clone();
        }
        let shard = self.shard_of(hash);
        let Self { shards, segments, .. } = self;
        shards[shard].insert_unique(hash, slot, |slot| hash_of(slot_in(segments, *slot).key));
        slot
    }

    /// hashbrown goes by the lowest bits and the seven highest: the shard goes by others.
    fn shard_of(&self, hash: u64) -> usize {
        usize::from(self.widths[(hash >> 40) as usize % SLICES])
    }

    pub(super) fn remove(&mut self, id: &VectorId) -> Option<(u32, Packed)> {
        let key = key_of(id);
        let hash = hash_of(key);
        let slot = self.find(id, key, hash)?;
        let shard = self.shard_of(hash);
        if let Ok(found) = self.shards[shard].find_entry(hash, |held| *held == slot) {
            found.remove();
        }
        if let VectorId::Text(text) = id {
            self.text_bytes -= heap_bytes(text);
            *self.text_mut(slot) = Box::default();
        }
        self.free.push(slot);
        Some((slot, self.slot(slot).packed))
    }

    /// The id and the entry in a slot that is taken.
    pub(super) fn at(&self, slot: u32) -> (VectorId, &Packed) {
        let Slot { key, packed } = self.slot(slot);
        let id = match self.kind {
            IdKind::Uuid => VectorId::Uuid(*key),
            IdKind::Int64 => VectorId::Int(*key as i64),
            IdKind::Text { .. } => VectorId::Text(self.text(slot).into()),
        };
        (id, packed)
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(VectorId, &Packed)) {
        for slot in self.shards.iter().flatten() {
            let (id, packed) = self.at(*slot);
            visit(id, packed);
        }
    }

    /// Visits at most `max` of the slots from `first` on, those that are taken; answers with the next one, if there is.
    pub(super) fn page(&self, first: u32, max: usize, mut visit: impl FnMut(VectorId, &Packed)) -> Option<u32> {
        let end = self.taken.min(first.saturating_add(u32::try_from(max).unwrap_or(u32::MAX)));
        for slot in first..end {
            if self.is_taken(slot) {
                let (id, packed) = self.at(slot);
                visit(id, packed);
            }
        }
        (end < self.taken).then_some(end)
    }

    /// A slot that was freed keeps its key, but no hash leads to it.
    fn is_taken(&self, slot: u32) -> bool {
        let hash = hash_of(self.slot(slot).key);
        self.shards[self.shard_of(hash)].find(hash, |held| *held == slot).is_some()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let segment_bytes = SEGMENT_SLOTS * (size_of::<Slot>() + if self.has_texts() { size_of::<Box<str>>() } else { 0 });
        let index: usize = self.shards.iter().map(|shard| size_of_val(shard) + shard.allocation_size()).sum();
        let lists = self.widths.len() + self.segments.capacity() * size_of::<Segment>() + self.free.capacity() * size_of::<u32>();
        self.segments.len() * segment_bytes + index + lists + self.text_bytes
    }

    fn find(&self, id: &VectorId, key: u128, hash: u64) -> Option<u32> {
        let same = |slot: &u32| {
            self.slot(*slot).key == key
                && match id {
                    // Two texts of one hash are two rows all the same.
                    VectorId::Text(text) => self.text(*slot) == &**text,
                    VectorId::Uuid(_) | VectorId::Int(_) => true,
                }
        };
        self.shards[self.shard_of(hash)].find(hash, same).copied()
    }

    fn take_slot(&mut self) -> u32 {
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        let slot = self.taken;
        if slot as usize == self.segments.len() * SEGMENT_SLOTS {
            let texts = if self.has_texts() { SEGMENT_SLOTS } else { 0 };
            self.segments.push(Segment {
                slots: vec![Slot::default(); SEGMENT_SLOTS].into_boxed_slice(),
                texts: vec![Box::default(); texts].into_boxed_slice(),
            });
        }
        self.taken = slot.checked_add(1).expect("2^32 slots of 48 bytes fit no machine's memory");
        slot
    }

    fn has_texts(&self) -> bool {
        matches!(self.kind, IdKind::Text { .. })
    }

    fn slot(&self, slot: u32) -> &Slot {
        slot_in(&self.segments, slot)
    }

    fn slot_mut(&mut self, slot: u32) -> &mut Slot {
        let (segment, place) = place_of(slot);
        &mut self.segments[segment].slots[place]
    }

    fn text(&self, slot: u32) -> &str {
        let (segment, place) = place_of(slot);
        &self.segments[segment].texts[place]
    }

    fn text_mut(&mut self, slot: u32) -> &mut Box<str> {
        let (segment, place) = place_of(slot);
        &mut self.segments[segment].texts[place]
    }
}

fn slot_in(segments: &[Segment], slot: u32) -> &Slot {
    let (segment, place) = place_of(slot);
    &segments[segment].slots[place]
}

fn place_of(slot: u32) -> (usize, usize) {
    (slot as usize / SEGMENT_SLOTS, slot as usize % SEGMENT_SLOTS)
}

fn key_of(id: &VectorId) -> u128 {
    match id {
        VectorId::Uuid(bits) => *bits,
        VectorId::Int(number) => u128::from(*number as u64),
        VectorId::Text(text) => xxh3_128(text.as_bytes()),
    }
}

fn hash_of(key: u128) -> u64 {
    xxh3_64(&key.to_le_bytes())
}

/// Shard `i` is wider than the one before it by the 256th root of two.
fn widths() -> Box<[u8]> {
    let shard = |slice: usize| (slice as f64 / SLICES as f64 + 1.0).log2() * SHARDS as f64;
    (0..SLICES).map(|slice| (shard(slice) as usize).min(SHARDS - 1) as u8).collect()
}

/// What an allocator takes for a text: its length and a word, in steps of 16 bytes.
fn heap_bytes(text: &str) -> usize {
    (text.len() + size_of::<usize>()).next_multiple_of(16).max(32)
}
