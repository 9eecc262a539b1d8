//! The writers: one in each region, whose every change is remembered by its bytes, so that whatever turns up
//! anywhere can be judged without the code that is being tested.

use super::scenario::WorkloadSpec;
use crate::adapter::embedded::schema::OUR_SCHEMA_ID;
use crate::base::ids::{CollectionId, Region, RowKey, VectorId};
use crate::base::time::UnixMs;
use crate::merge::hlc::{Hlc, HlcClock};
use crate::merge::version::{ContentHash, Version};
use crate::record::avro::{self, Fields, WireOp};
use crate::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use crate::record::framing;
use crate::record::reason::Reason;
use crate::testing::random::SplitMix64;
use bytes::Bytes;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

pub(super) const DIMENSION: usize = 2;
/// How many there are (see [`collections`]).
pub(super) const COLLECTIONS: u64 = 2;
/// How many changes back a duplicate or a tie may reach.
const RECENT: usize = 40;
/// Longer than the column of `notes`.
const TOO_LONG: &str = "a-text-that-is-longer-than-the-forty-bytes-there-are";
/// How far off a stamp is that no region may admit.
const FAR_OFF_MS: i64 = 5 * 60_000;

/// What is wrong with a record, whatever its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Refused in every region.
    Always(Reason),
    /// Refused only by whoever sees it win.
    IfItWins,
}

/// A change as it was made.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub key: RowKey,
    pub version: Version,
    pub hash: ContentHash,
    pub delete: bool,
    pub vector: [f32; DIMENSION],
    pub flaw: Option<Flaw>,
    /// What its record must be keyed by.
    pub record_key: Bytes,
    value: Bytes,
}

impl Made {
    pub fn value(&self) -> &Bytes {
        &self.value
    }
}

/// A record to be appended to the local change topic.
#[derive(Debug, Clone)]
pub(super) struct ToSend {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// Another partition than the key's, if this number says so.
    pub astray: Option<u64>,
}

/// What one record is, by its bytes alone.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meaning<'a> {
    Change(&'a Made),
    NullValue,
    /// A heartbeat, or another record that the engine makes for itself.
    Ours,
}

pub(super) fn collections() -> Collections {
    let spec = |name: &str, id| CollectionSpec {
        name: name.to_owned(),
        id,
        dimension: DIMENSION,
        metric: Metric::L2,
        index: IndexKind::Auto,
        auto_create: true,
    };
    Collections::new(vec![spec("documents", IdKind::Int64), spec("notes", IdKind::Text { max_bytes: 40 })])
}

pub(super) struct Workload {
    spec: WorkloadSpec,
    max_lateness: Duration,
    random: SplitMix64,
    regions: Vec<Region>,
    clocks: Vec<HlcClock>,
    sequences: u64,
    recent: VecDeque<(usize, Made)>,
    flaws: usize,
    by_value: HashMap<Bytes, Made>,
    /// Ids that the first region's vector store refuses.
    refused: HashSet<RowKey>,
}

impl Workload {
    pub fn new(spec: WorkloadSpec, max_lateness: Duration, regions: Vec<Region>, mut random: SplitMix64) -> Self {
        let mut refused = HashSet::new();
        for number in 0..spec.keys {
            if random.percent(spec.refused_percent) {
                refused.insert(row_key(number));
            }
        }
        Self {
            clocks: vec![HlcClock::default(); regions.len()],
            spec,
            max_lateness,
            random,
            regions,
            sequences: 0,
            recent: VecDeque::new(),
            flaws: 0,
            by_value: HashMap::new(),
            refused,
        }
    }

    pub fn refused(&self) -> &HashSet<RowKey> {
        &self.refused
    }

    pub fn is_refused(&self, region: usize, key: &RowKey) -> bool {
        region == 0 && self.refused.contains(key)
    }

    pub fn meaning(&self, value: Option<&Bytes>) -> Meaning<'_> {
        match value {
            None => Meaning::NullValue,
            Some(value) => self.by_value.get(value).map_or(Meaning::Ours, Meaning::Change),
        }
    }

    /// The next record of a region whose writer's clock shows `wall`.
    pub fn next(&mut self, region: usize, wall: UnixMs) -> ToSend {
        let mut draw = self.random.below(100);
        let mut falls_to = |percent: usize| {
            let hit = draw < percent;
            draw = draw.wrapping_sub(percent);
            hit
        };
        if falls_to(self.spec.bad_percent) {
            return self.bad(region, wall);
        }
        if falls_to(self.spec.duplicate_percent)
            && let Some(made) = self.recent_of(region)
        {
            return self.keyed(&made);
        }
        if falls_to(self.spec.tie_percent)
            && let Some(made) = self.tie(region)
        {
            return self.send(region, made);
        }
        if falls_to(self.spec.twin_percent)
            && let Some(made) = self.twin(region)
        {
            return self.send(region, made);
        }
        let json = falls_to(self.spec.json_percent);
        let made = if json { self.fresh_json(region, wall) } else { self.fresh(region, wall) };
        self.send(region, made)
    }

    fn send(&mut self, region: usize, made: Made) -> ToSend {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((region, made.clone()));
        let keyless = self.random.percent(self.spec.keyless_percent);
        let sent = self.keyed(&made);
        self.by_value.insert(made.value.clone(), made);
        match (keyless, self.random.percent(50)) {
            (false, _) => sent,
            (true, true) => ToSend { key: None, ..sent },
            (true, false) => ToSend { astray: Some(self.random.next()), ..sent },
        }
    }

    fn keyed(&self, made: &Made) -> ToSend {
        ToSend { key: Some(made.record_key.clone()), value: Some(made.value.clone()), astray: None }
    }

    fn recent_of(&mut self, region: usize) -> Option<Made> {
        let of_region: Vec<&Made> = self.recent.iter().filter(|(of, _)| *of == region).map(|(_, made)| made).collect();
        if of_region.is_empty() {
            return None;
        }
        Some(of_region[self.random.below(of_region.len())].clone())
    }

    fn stamp(&mut self, region: usize, wall: UnixMs) -> Hlc {
        let stamp = self.clocks[region].stamp(wall);
        if self.random.percent(self.spec.disorder_percent) {
            let back = self.random.between(0, self.spec.disorder_max.as_millis() as u64) as i64;
            return Hlc::new(UnixMs(stamp.wall().0 - back), stamp.counter());
        }
        stamp
    }

    fn fresh(&mut self, region: usize, wall: UnixMs) -> Made {
        let version =
            Version { hlc: self.stamp(region, wall), origin: self.regions[region].clone(), sequence: self.next_sequence() };
        let key = row_key(self.random.below(self.spec.keys));
        let delete = self.random.percent(self.spec.delete_percent);
        self.made(key, version, delete)
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequences += 1;
        // Now and then above 2^63: sequences are unsigned.
        if self.sequences.is_multiple_of(7) { u64::MAX - self.sequences } else { self.sequences }
    }

    fn made(&mut self, key: RowKey, version: Version, delete: bool) -> Made {
        let vector = [self.random.unit(), self.random.unit()];
        let op = if delete { WireOp::Delete } else { WireOp::Upsert };
        let floats: &[f32] = if delete { &[] } else { &vector };
        self.encode(key, version, op, floats, vector, None)
    }

    fn encode(
        &self,
        key: RowKey,
        version: Version,
        op: WireOp,
        floats: &[f32],
        vector: [f32; DIMENSION],
        flaw: Option<Flaw>,
    ) -> Made {
        let collections = collections();
        let body = avro::encode(&Fields {
            op,
            hlc: version.hlc,
            origin: version.origin.as_str(),
            sequence: version.sequence,
            collection: &collections.get(key.collection).name,
            vector_id: &key.id.to_string(),
            vector: floats,
            metadata: &[],
        });
        Made {
            record_key: Bytes::from(key.id.to_string()),
            value: Bytes::from(framing::frame(OUR_SCHEMA_ID, &body)),
            hash: ContentHash::of(&body),
            delete: op == WireOp::Delete,
            key,
            version,
            vector,
            flaw,
        }
    }

    /// A version of the region's own once more, with other content.
    fn twin(&mut self, region: usize) -> Option<Made> {
        let made = self.recent_of(region)?;
        Some(self.made(made.key, made.version, made.delete))
    }

    /// The stamp of a recent change of any region, under a sequence of its own.
    fn tie(&mut self, region: usize) -> Option<Made> {
        if self.recent.is_empty() {
            return None;
        }
        let (_, made) = self.recent[self.random.below(self.recent.len())].clone();
        let sequence = self.next_sequence();
        let version = Version { hlc: made.version.hlc, origin: self.regions[region].clone(), sequence };
        Some(self.made(made.key, version, made.delete))
    }

    fn fresh_json(&mut self, region: usize, wall: UnixMs) -> Made {
        let key = row_key(self.random.below(self.spec.keys));
        let wall = self.stamp(region, wall).wall();
        let vector = [self.random.unit(), self.random.unit()];
        let delete = self.random.percent(self.spec.delete_percent);
        let collections = collections();
        let text = serde_json::json!({
            "type": if delete { "delete" } else { "upsert" },
            "collection": collections.get(key.collection).name,
            "vector_id": key.id.to_string(),
            "payload": if delete { &[] } else { &vector[..] },
            "timestamp": wall.0,
            // JSON names no region: the number keeps equal changes of two regions apart.
            "metadata": { "number": self.next_sequence() & 0xffff_ffff },
        })
        .to_string();
        let hash = ContentHash::of(text.as_bytes());
        Made {
            record_key: Bytes::from(key.id.to_string()),
            version: Version { hlc: Hlc::at(wall), origin: self.regions[region].clone(), sequence: hash.0 },
            value: Bytes::from(text),
            hash,
            delete,
            key,
            vector,
            flaw: None,
        }
    }

    /// Each kind of bad record in turn.
    fn bad(&mut self, region: usize, wall: UnixMs) -> ToSend {
        self.flaws += 1;
        let good = self.fresh(region, wall);
        let shifted = |made: &Made, by_ms: i64| Version { hlc: Hlc::at(UnixMs(wall.0 + by_ms)), ..made.version.clone() };
        let always = |reason| Some(Flaw::Always(reason));
        let mut made = match self.flaws % 10 {
            0 => return ToSend { value: None, ..self.keyed(&good) },
            1 => Made { value: good.value.slice(..good.value.len() / 2), flaw: always(Reason::Malformed), ..good },
            2 => Made { value: reframed(&good.value), flaw: always(Reason::UnknownSchema), ..good },
            3 => self.renamed(&good, |fields| fields.collection = "nowhere", Reason::UnknownCollection),
            4 => self.renamed(&good, |fields| fields.vector_id = TOO_LONG, Reason::BadId),
            5 => self.renamed(&good, |fields| fields.origin = "atlantis", Reason::ForeignOrigin),
            // Judged by their stamps, as any other.
            6 => self.made(good.key.clone(), shifted(&good, FAR_OFF_MS), false),
            7 => {
                let late = FAR_OFF_MS + self.max_lateness.as_millis() as i64;
                self.made(good.key.clone(), shifted(&good, -late), false)
            }
            8 => {
                let vector = good.vector;
                self.encode(good.key, good.version, WireOp::Upsert, &[1.0, 2.0, 3.0], vector, Some(Flaw::IfItWins))
            }
            _ => {
                let vector = good.vector;
                self.encode(good.key, good.version, WireOp::Upsert, &[f32::NAN, 2.0], vector, Some(Flaw::IfItWins))
            }
        };
        // A cut value could be equal to another's.
        if let Some(Flaw::Always(Reason::Malformed)) = made.flaw {
            made.value = made.value.iter().copied().chain(self.sequences.to_be_bytes().map(|byte| byte | 0x80)).collect();
        }
        let sent = self.keyed(&made);
        self.by_value.insert(made.value.clone(), made);
        sent
    }

    fn renamed<'a>(&self, good: &'a Made, rename: impl FnOnce(&mut Fields<'a>), reason: Reason) -> Made {
        let mut fields = Fields {
            op: WireOp::Upsert,
            hlc: good.version.hlc,
            origin: good.version.origin.as_str(),
            sequence: good.version.sequence,
            collection: "notes",
            vector_id: "n1",
            vector: &good.vector,
            metadata: &[],
        };
        rename(&mut fields);
        let value = Bytes::from(framing::frame(OUR_SCHEMA_ID, &avro::encode(&fields)));
        Made { value, flaw: Some(Flaw::Always(reason)), ..good.clone() }
    }
}

/// The ids take turns between the collections.
pub(super) fn row_key(number: usize) -> RowKey {
    let id = if number.is_multiple_of(2) {
        VectorId::Int(number as i64 - 4)
    } else {
        VectorId::Text(format!("n{number}").into_boxed_str())
    };
    RowKey { collection: CollectionId((number % 2) as u16), id }
}

/// The same body under a schema id that no registry has.
fn reframed(value: &Bytes) -> Bytes {
    let mut value = value.to_vec();
    value[1] = 0x7f;
    Bytes::from(value)
}
