//! How long an acknowledged row stays unseen: measured on a small collection of our own, never in a user's.

use super::connection::Service;
use super::{MilvusAdmin, MilvusSettings, read, store, write};
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

/// A row of our own, to be written over and over and looked for.
pub struct Canary {
    service: Service,
    spec: CollectionSpec,
    id: VectorId,
}

/// Of one writing of the row; greater than those of all that the same process did before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64);

impl Canary {
    /// Creates the collection where it is missing. Whoever looks for what others may write too needs an id of its own.
    pub async fn prepare(settings: &MilvusSettings, id: i64) -> Result<Self> {
        Self::within(&MilvusAdmin::connect(settings).await?, id).await
    }

    async fn within(admin: &MilvusAdmin, id: i64) -> Result<Self> {
        let spec = CollectionSpec {
            name: COLLECTION.to_owned(),
            id: IdKind::Int64,
            dimension: 2,
            metric: Metric::L2,
            index: IndexKind::Auto,
            auto_create: true,
        };
        admin.prepare(&Collections::new(vec![spec.clone()])).await?;
        Ok(Self { service: admin.service(), spec, id: VectorId::Int(id) })
    }

    /// Ends with Milvus' acknowledgement.
    pub async fn write(&self) -> Result<Stamp> {
        let stamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let batch = RowBatch {
            ids: vec![self.id.clone()],
            vectors: vec![0.0, 1.0],
            versions: vec![Version { hlc: Hlc(stamp), origin: Region::new("probe"), sequence: 0 }],
            metadata: vec![b"{}".to_vec()],
            deletes: Vec::new(),
        };
        let request = write::upsert_request(&self.spec, &batch).map_err(failed)?;
        store::upsert(self.service.clone(), request, GIVE_UP).await.map_err(failed)?;
        Ok(Stamp(stamp))
    }

    /// Does a query of the lowest consistency find the row as it was written then, or later?
    pub async fn is_found(&self, stamp: Stamp) -> Result<bool> {
        let id = std::slice::from_ref(&self.id);
        let found = read::versions_of(self.service.clone(), &self.spec, id, read::Freshness::Whatever).await;
        Ok(found.map_err(failed)?.iter().any(|row| row.version.as_ref().is_some_and(|version| version.hlc.0 >= stamp.0)))
    }

    /// From sending to the acknowledgement, and from there until it is found.
    async fn sample(&self) -> Result<(Duration, Duration)> {
        let sent = Instant::now();
        let stamp = self.write().await?;
        let written = Instant::now();
        while !self.is_found(stamp).await? {
            if written.elapsed() > GIVE_UP {
                return Err(Error::retry(format!("a row of {COLLECTION} is not visible {GIVE_UP:?} after it was written")));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok((written - sent, written.elapsed()))
    }
}

fn failed(error: StoreError) -> Error {
    Error::retry(format!("probing visibility with collection {COLLECTION}: {error}"))
}

impl MilvusAdmin {
    /// Creates the probe's collection where it is missing, writes a row some times over and looks for it.
    pub async fn measure_visibility(&self) -> Result<Visibility> {
        let canary = Canary::within(self, 0).await?;
        let (mut acknowledged, mut visible) = (Vec::new(), Vec::new());
        for _ in 0..SAMPLES {
            let (first, second) = canary.sample().await?;
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
