//! Rows into one physical collection, in batches, some of them under way at once.

use crate::base::error::{Error, Result};
use crate::base::ids::{CollectionId, VectorId};
use crate::merge::version::Version;
use crate::ops::ask::ask;
use crate::ops::work::Work;
use crate::port::vector::{RowBatch, StoreError, StoreReply, StoreRequest, VectorStore};
use crate::task::settings::SAFETY_WINDOW;
use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const BATCH_BYTES: usize = 2 << 20;
const BATCHES_MAX: usize = 4;
/// Between two attempts at a batch that the store did not take.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// Attempts at one batch, all in vain, before it is given up: some minutes.
const ATTEMPTS_MAX: u32 = 300;
const READ_BACK_IDS: usize = 4_096;
const SCAN_ROWS: usize = 8_192;

pub struct RowWriter {
    store: Box<dyn VectorStore>,
    collection: CollectionId,
    batch: RowBatch,
    /// With the attempts so far.
    under_way: HashMap<u64, (Arc<RowBatch>, u32)>,
    next_token: u64,
    /// Until then a write that got no answer, or of which nobody waits for the answer any more, may yet be carried out.
    unsure_until: Option<Duration>,
    /// Single rows that the store does not take.
    pub refused: Vec<(VectorId, Version)>,
}

impl RowWriter {
    pub fn new(store: Box<dyn VectorStore>, collection: CollectionId) -> Self {
        let (batch, under_way) = (RowBatch::default(), HashMap::new());
        Self { store, collection, batch, under_way, next_token: 0, unsure_until: None, refused: Vec::new() }
    }

    /// A write may be under way from now on that this writer knows nothing of.
    pub fn doubt(&mut self, work: &Work<'_>) {
        self.unsure_until = Some(work.clock.now().monotonic + SAFETY_WINDOW);
    }

    /// Waits until no former write can be carried out any more, after others that came later. False: none could.
    pub fn wait_until_sure(&mut self, work: &mut Work<'_>) -> Result<bool> {
        let Some(until) = self.unsure_until.take() else { return Ok(false) };
        let left = until.saturating_sub(work.clock.now().monotonic);
        work.wait_until("writes that Milvus has not answered and may yet carry out", left, || Ok(false))?;
        Ok(true)
    }

    /// Until the next [`flush`](Self::flush) each row comes at most once.
    pub fn upsert(&mut self, id: VectorId, version: Version, vector: &[f32], metadata: &[u8], work: &mut Work<'_>) -> Result<()> {
        self.batch.ids.push(id);
        self.batch.versions.push(version);
        self.batch.vectors.extend_from_slice(vector);
        self.batch.metadata.push(metadata.to_vec());
        self.send_if_full(work)
    }

    pub fn delete(&mut self, id: VectorId, work: &mut Work<'_>) -> Result<()> {
        self.batch.deletes.push(id);
        self.send_if_full(work)
    }

    /// Waits until all is acknowledged.
    pub fn flush(&mut self, work: &mut Work<'_>) -> Result<()> {
        self.send();
        while !self.under_way.is_empty() {
            self.take_answers(work)?;
        }
        Ok(())
    }

    /// Visits every row that the collection holds, in the order of ids.
    pub fn scan(&mut self, work: &mut Work<'_>, visit: &mut dyn FnMut(&VectorId, Option<&Version>)) -> Result<()> {
        self.flush(work)?;
        let mut after = None;
        loop {
            let page = match self.ask(&StoreRequest::Scan { after, limit: SCAN_ROWS }, work)? {
                StoreReply::Scanned(page) if page.misnamed == 0 => page,
                StoreReply::Scanned(_) => return Err(Error::retry("somebody else writes rows there, with ids of another form")),
                other => return Err(Error::fatal(format!("a question was answered with {other:?}"))),
            };
            work.advance(page.rows.len() as u64)?;
            page.rows.iter().for_each(|row| visit(&row.id, row.version.as_ref()));
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// The versions that the collection holds now. Nothing is under way meanwhile.
    pub fn read_back(&mut self, ids: &[VectorId], work: &mut Work<'_>) -> Result<HashMap<VectorId, Option<Version>>> {
        self.flush(work)?;
        let mut found = HashMap::new();
        for chunk in ids.chunks(READ_BACK_IDS) {
            match self.ask(&StoreRequest::ReadBack(chunk.to_vec()), work)? {
                StoreReply::ReadBack(rows) => found.extend(rows.into_iter().map(|row| (row.id, row.version))),
                other => return Err(Error::fatal(format!("a question was answered with {other:?}"))),
            }
        }
        Ok(found)
    }

    /// As often as it takes.
    fn ask(&mut self, question: &StoreRequest, work: &mut Work<'_>) -> Result<StoreReply> {
        let mut attempts = 0;
        loop {
            match ask(self.store.as_mut(), self.collection, question.clone()) {
                Ok(reply) => return Ok(reply),
                Err(error) => {
                    attempts += 1;
                    again(attempts, &error, work)?;
                }
            }
        }
    }

    fn send_if_full(&mut self, work: &mut Work<'_>) -> Result<()> {
        if self.batch.bytes() >= BATCH_BYTES {
            self.send();
        }
        while self.under_way.len() >= BATCHES_MAX {
            self.take_answers(work)?;
        }
        Ok(())
    }

    fn send(&mut self) {
        if !self.batch.is_empty() {
            let batch = Arc::new(std::mem::take(&mut self.batch));
            self.submit(batch, 0);
        }
    }

    fn submit(&mut self, batch: Arc<RowBatch>, attempts: u32) {
        let token = self.next_token;
        self.next_token += 1;
        self.store.submit(self.collection, StoreRequest::Write(batch.clone()), token);
        self.under_way.insert(token, (batch, attempts));
    }

    /// One row among them is not taken: it was not when it came either, or its dead letter would not be there.
    fn refused(&mut self, batch: &RowBatch, words: &str) {
        if batch.ids.len() + batch.deletes.len() > 1 && !batch.ids.is_empty() {
            for half in halves(batch).into_iter().filter(|half| !half.is_empty()) {
                self.submit(Arc::new(half), 0);
            }
            return;
        }
        for (id, version) in batch.ids.iter().zip(&batch.versions) {
            tracing::warn!(%id, %version, "Milvus does not take a row, which is left out: {words}");
            self.refused.push((id.clone(), version.clone()));
        }
    }

    fn take_answers(&mut self, work: &mut Work<'_>) -> Result<()> {
        work.go_on()?;
        let mut responses = Vec::new();
        self.store.poll(&mut responses);
        if responses.is_empty() {
            // The store wakes this thread, and so does who interrupts.
            thread::park();
        }
        for response in responses {
            let Some((batch, attempts)) = self.under_way.remove(&response.token) else { continue };
            match response.outcome {
                Ok(_) => {}
                Err(StoreError::Refused(words)) => self.refused(&batch, &words),
                Err(error) => {
                    if matches!(error, StoreError::Ambiguous(_)) {
                        self.doubt(work);
                    }
                    again(attempts + 1, &error, work)?;
                    self.submit(batch, attempts + 1);
                }
            }
        }
        Ok(())
    }
}

/// A batch of several rows, halved.
fn halves(batch: &RowBatch) -> [RowBatch; 2] {
    let rows = batch.ids.len();
    let (middle, dimension) = (rows / 2, batch.vectors.len().checked_div(rows).unwrap_or(0));
    let part = |rows: std::ops::Range<usize>, deletes: &[VectorId]| RowBatch {
        ids: batch.ids[rows.clone()].to_vec(),
        vectors: batch.vectors[rows.start * dimension..rows.end * dimension].to_vec(),
        versions: batch.versions[rows.clone()].to_vec(),
        metadata: batch.metadata[rows].to_vec(),
        deletes: deletes.to_vec(),
    };
    [part(0..middle, &batch.deletes), part(middle..rows, &[])]
}

/// Waits before another attempt, if there is to be one.
fn again(attempts: u32, error: &StoreError, work: &mut Work<'_>) -> Result<()> {
    if attempts >= ATTEMPTS_MAX || matches!(error, StoreError::Refused(_)) {
        return Err(Error::retry(format!("Milvus does not go on: {error}")));
    }
    work.wait(format!("waiting for Milvus ({error})"), RETRY_WAIT)
}
