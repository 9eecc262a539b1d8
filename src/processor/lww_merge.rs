//! The merge: the greatest version takes the row, its body is read, and it is put and forwarded; losers end
//! here, those of another origin on the conflicts topic.

use crate::base::error::Result;
use crate::merge::hlc::Hlc;
use crate::merge::lww::{Verdict, judge};
use crate::record::change::Op;
use crate::record::decode::decode_row;
use crate::record::reason::{Reason, Rejection};
use crate::topology::node::{Context, Message, Processor, Row};

#[derive(Debug, Default)]
pub struct LwwMerge;

impl Processor for LwwMerge {
    fn process(&mut self, message: Message, context: &mut Context<'_>) -> Result<()> {
        let change = &message.change;
        let Some(holder) = context.versions.holder(&change.key) else {
            let below = |floor: Option<Hlc>| floor.is_some_and(|floor| change.version.hlc < floor);
            if context.repair {
                // Whoever brings it has seen to it that nothing newer can have been forgotten here.
                win(message, context);
            } else if below(context.source_floor) {
                // Nothing admissible and unseen is older than the floor: this is a replay of something that
                // a tombstone, since forgotten, had already beaten.
                context.drop_as("below-floor");
            } else if below(context.floor) {
                // Of a region that came (back) later: a tombstone that is forgotten by now may have beaten it, and
                // nobody can tell any more.
                let detail = "older than what deletes are remembered for, and its key has no entry: replay it with a new stamp if it is to be";
                context.reject(Rejection::new(Reason::BelowFloor, detail));
            } else {
                win(message, context);
            }
            return Ok(());
        };
        match judge(&change.version, || change.content_hash(), &holder.version, holder.content_hash) {
            Verdict::Wins => win(message, context),
            Verdict::Duplicate if holder.is_worth_another_try() => win(message, context),
            Verdict::Conflict => context.conflict(message.change, holder.version),
            lost => context.drop_as(lost.word()),
        }
        Ok(())
    }
}

/// A winner must be good to the last byte before it may hold the key: the state is the greatest *good* change.
fn win(mut message: Message, context: &mut Context<'_>) {
    match read_row(&message, context) {
        Ok(row) => {
            let content_hash = message.change.content_hash();
            context.put(&message.change, content_hash);
            message.row = row;
            context.forward(message);
        }
        Err(rejection) => context.reject(rejection),
    }
}

/// A delete's body is read too, and nothing of it used: bytes that are no change in one region are none in any.
fn read_row(message: &Message, context: &Context<'_>) -> std::result::Result<Option<Row>, Rejection> {
    let spec = context.task.collections.get(message.change.key.collection);
    let mut row = context.spare_row();
    row.vector.reserve(spec.dimension);
    // What is no vector is header and metadata, about as long as the JSON that the metadata becomes.
    row.metadata.reserve(message.change.body.content.len().saturating_sub(spec.dimension * size_of::<f32>()));
    decode_row(&message.change, spec, &mut row.vector, &mut row.metadata)?;
    if message.change.op == Op::Upsert {
        return Ok(Some(row));
    }
    context.done_with(row);
    Ok(None)
}
