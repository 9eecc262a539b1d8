//! Admission: is the change's stamp near enough to the time its own region's broker took it in?
//!
//! A function of the record alone (INV-5): both times are in it, so every region judges alike, and one bad
//! clock can neither win for ever nor split the regions. Admitted changes must then lie where their key
//! belongs; those that don't are appended again by their own region and skipped by the others.

use crate::base::error::Result;
use crate::base::ids::ID_TEXT_BYTES;
use crate::record::change::Change;
use crate::record::reason::{Reason, Rejection};
use crate::region::partitioner::partition_for_key;
use crate::topology::node::{Context, Message, Processor};

/// How far ahead of the append a stamp may be, in ms.
pub const EARLY_MS_MAX: i64 = 60_000;

#[derive(Debug, Default)]
pub struct Admit;

impl Processor for Admit {
    fn process(&mut self, message: Message, context: &mut Context<'_>) -> Result<()> {
        let change = &message.change;
        if context.repair {
            match misplaced(change, context.task.partitions) {
                Some(rejection) => context.reject(rejection),
                None => context.forward(message),
            }
        } else if let Some(rejection) = inadmissible(change.lateness_ms(), context.task.max_lateness_ms) {
            context.reject(rejection);
        } else if well_keyed(change, context.task.partitions) {
            context.forward(message);
        } else if context.from_own_region() {
            context.rekey(message.change.key);
        } else {
            // Its own region appends it again under its proper key, and that copy is mirrored here.
            context.drop_as("mis-keyed");
        }
        Ok(())
    }
}

pub(crate) fn inadmissible(lateness_ms: i64, max_lateness_ms: i64) -> Option<Rejection> {
    if lateness_ms < -EARLY_MS_MAX {
        let detail = format!(
            "stamped {} ms ahead of its append, at most {EARLY_MS_MAX} is admitted: check the producer's clock and unit",
            -lateness_ms
        );
        Some(Rejection::new(Reason::Early, detail))
    } else if lateness_ms > max_lateness_ms {
        let detail = format!(
            "appended {lateness_ms} ms after its stamp, at most {max_lateness_ms} is admitted: replay it with a new stamp if it still matters"
        );
        Some(Rejection::new(Reason::Late, detail))
    } else {
        None
    }
}

/// Does the record carry its canonical id as the key, and lie in that key's partition?
pub(crate) fn well_keyed(change: &Change, partitions: i32) -> bool {
    let mut buffer = [0; ID_TEXT_BYTES];
    let id = change.key.id.text(&mut buffer).as_bytes();
    change.record.key.as_deref() == Some(id) && change.record.partition == partition_for_key(id, partitions)
}

/// A record of the repair topic in a partition that is not its key's: taken there, two tasks would write one row.
fn misplaced(change: &Change, partitions: i32) -> Option<Rejection> {
    let mut buffer = [0; ID_TEXT_BYTES];
    let own = partition_for_key(change.key.id.text(&mut buffer).as_bytes(), partitions);
    let detail = || format!("its key belongs in partition {own}: do the peer's topics have as many partitions?");
    (own != change.record.partition).then(|| Rejection::new(Reason::Malformed, detail()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_are_admitted_and_one_beyond_is_not() {
        let reason = |lateness_ms| inadmissible(lateness_ms, 3_600_000).map(|rejection| rejection.reason);
        assert_eq!(reason(-60_000), None);
        assert_eq!(reason(-60_001), Some(Reason::Early));
        assert_eq!(reason(3_600_000), None);
        assert_eq!(reason(3_600_001), Some(Reason::Late));
    }
}
