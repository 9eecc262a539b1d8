//! How long an acknowledged row stays unseen: measured on a small collection of our own, never in a user's.

use super::connection::Service;
use super::{MilvusAdmin, read, store, write};
use crate::base::error::{Error, Result};
use crate::base::ids::{Region, VectorId};
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::port::vector::{RowBatch, StoreError};
use crate::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const COLLECTION: &str = "driftless_probe";
const SAMPLES: usize = 7;
const PAUSE: Duration = Duration::from_millis(2);
const GIVE_UP: Duration = Duration::from_secs(10);

/// The middle and the longest of a few samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visibility {
    /// From sending a row to Milvus' acknowledgement.
    pub acknowledged: Duration,
    /// From the acknowledgement until a query of the lowest consistency finds the row.
    pub visible: Duration,
    pub visible_max: Duration,
}

impl MilvusAdmin {
    /// Creates the probe's collection where it is missing, writes a row some times over and looks for it.
    pub async fn measure_visibility(&self) -> Result<Visibility> {
        let spec = probe_spec();
        self.prepare(&Collections::new(vec![spec.clone()])).await?;
        let (mut acknowledged, mut visible) = (Vec::new(), Vec::new());
        for _ in 0..SAMPLES {
            let (first, second) = sample(self.service(), &spec).await?;
            acknowledged.push(first);
            visible.push(second);
        }
        acknowledged.sort();
        visible.sort();
        Ok(Visibility {
            acknowledged: acknowledged[SAMPLES / 2],
            visible: visible[SAMPLES / 2],
            visible_max: visible[SAMPLES - 1],
        })
    }
}

fn probe_spec() -> CollectionSpec {
    CollectionSpec {
        name: COLLECTION.to_owned(),
        id: IdKind::Int64,
        dimension: 2,
        metric: Metric::L2,
        index: IndexKind::Auto,
        auto_create: true,
    }
}

async fn sample(service: Service, spec: &CollectionSpec) -> Result<(Duration, Duration)> {
    let failed = |error: StoreError| Error::retry(format!("probing visibility with collection {COLLECTION}: {error}"));
    // Never written before: no other probe of this collection can be taken for it.
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let id = VectorId::Int(0);
    let batch = RowBatch {
        ids: vec![id.clone()],
        vectors: vec![0.0, 1.0],
        versions: vec![Version { hlc: Hlc(stamp), origin: Region::new("probe"), sequence: 0 }],
        metadata: vec![b"{}".to_vec()],
        deletes: Vec::new(),
    };
    let request = write::upsert_request(spec, &batch).map_err(failed)?;
    let sent = Instant::now();
    store::upsert(service.clone(), request, GIVE_UP).await.map_err(failed)?;
    let written = Instant::now();
    loop {
        let found = read::versions_of(service.clone(), spec, std::slice::from_ref(&id), read::Freshness::Whatever);
        let found = found.await.map_err(failed)?;
        if found.iter().any(|row| row.version.as_ref().is_some_and(|version| version.hlc.0 >= stamp)) {
            return Ok((written - sent, written.elapsed()));
        }
        if written.elapsed() > GIVE_UP {
            return Err(Error::retry(format!("a row of {COLLECTION} is not visible {GIVE_UP:?} after it was written")));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
