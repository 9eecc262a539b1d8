//! The end of the way: hands the winner to the task's lane for its collection (`task::lane`), which batches,
//! sends and retries; and a sink that writes nowhere, to measure everything before it.

use crate::base::error::Result;
use crate::topology::node::{Context, Message, Processor};

#[derive(Debug, Default)]
pub struct MilvusSink;

impl Processor for MilvusSink {
    fn process(&mut self, message: Message, context: &mut Context<'_>) -> Result<()> {
        context.write(message);
        Ok(())
    }
}

#[derive(Debug, Default)]
pub struct NullSink;

impl Processor for NullSink {
    fn process(&mut self, message: Message, context: &mut Context<'_>) -> Result<()> {
        if let Some(row) = message.row {
            context.done_with(row);
        }
        Ok(())
    }
}
