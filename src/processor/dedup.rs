//! Drops what has been seen: the same row key, version and content as what holds the key now.
//!
//! It never decides between changes that differ; that is the merge's.

use crate::base::error::Result;
use crate::merge::lww::{Verdict, judge};
use crate::topology::node::{Context, Message, Processor};

#[derive(Debug, Default)]
pub struct Dedup;

impl Processor for Dedup {
    fn process(&mut self, message: Message, context: &mut Context<'_>) -> Result<()> {
        let change = &message.change;
        if let Some(holder) = context.versions.holder(&change.key)
            && !holder.is_worth_another_try()
            && judge(&change.version, || change.content_hash(), &holder.version, holder.content_hash) == Verdict::Duplicate
        {
            context.drop_as(Verdict::Duplicate.word());
        } else {
            context.forward(message);
        }
        Ok(())
    }
}
