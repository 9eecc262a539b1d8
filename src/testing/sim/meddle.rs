//! Somebody else who writes to a region's vector store, behind the workers' backs.

use super::clock::EPOCH_MS;
use super::plan::PlannedFault;
use super::region::SimRegion;
use super::scenario::FaultKind;
use super::workload::{COLLECTIONS, row_key};
use crate::adapter::embedded::vector::StoredRow;
use crate::base::ids::{CollectionId, Region, RowKey};
use crate::base::time::UnixMs;
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use std::sync::PoisonError;
use std::time::Duration;

/// Ids that the writers don't use begin here.
const FOREIGN_NUMBER: usize = 1_000_000;
/// How far a forged stamp is ahead: further than all clocks that jump.
const FORGED_MS: u64 = 3 * 3_600_000;
/// How far before the regions' beginning a foreign row may have been written.
const BEFORE_MS: i64 = 600_000;

/// False where there is no row to which it could happen.
pub(super) fn with_rows(region: &mut SimRegion, fault: &PlannedFault, now: Duration) -> bool {
    if fault.kind == FaultKind::RowAppears {
        appear(region, fault, now);
        return true;
    }
    let collection = CollectionId((fault.which % COLLECTIONS) as u16);
    let rows = region.database.scan(collection);
    let chosen = fault.which as usize / COLLECTIONS as usize % rows.len().max(1);
    let Some((id, mut row)) = rows.into_iter().nth(chosen) else { return false };
    if fault.kind == FaultKind::RowVanishes {
        region.database.meddle(collection, id, None);
        return true;
    }
    row.vector.fill(-0.25);
    let Version { hlc, sequence, .. } = &mut row.version;
    match fault.amount {
        1 if *sequence > 0 => *sequence -= 1,
        2 => hlc.0 += FORGED_MS << 16,
        _ => hlc.0 -= 1,
    }
    let key = RowKey { collection, id: id.clone() };
    region.checks.lock().unwrap_or_else(PoisonError::into_inner).foreign.written_over(&key, row.version.hlc);
    region.database.meddle(collection, id, Some(row));
    true
}

fn appear(region: &mut SimRegion, fault: &PlannedFault, now: Duration) {
    let now_ms = EPOCH_MS + now.as_millis() as i64;
    let wall_ms = match fault.amount {
        0 => EPOCH_MS - BEFORE_MS,
        1 => now_ms,
        _ => now_ms + FORGED_MS as i64,
    };
    let hlc = Hlc::at(UnixMs(wall_ms));
    let key: RowKey = row_key(FOREIGN_NUMBER + fault.which as usize);
    let version = Version { hlc, origin: Region::new("us"), sequence: fault.which };
    let row = StoredRow { vector: vec![0.5; super::workload::DIMENSION], version, metadata: b"{}".to_vec() };
    region.checks.lock().unwrap_or_else(PoisonError::into_inner).foreign.put(key.clone(), hlc);
    region.database.meddle(key.collection, key.id, Some(row));
}
