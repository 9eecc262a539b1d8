//! The port's implementation: each request is one task on the runtime, its answer comes back by a channel.

use super::connection::{Service, lazy_service};
use super::{MilvusSettings, fault, read, write};
use crate::base::error::Result;
use crate::base::ids::CollectionId;
use crate::port::log::Wake;
use crate::port::vector::{RowBatch, StoreError, StoreReply, StoreRequest, StoreResponse, VectorStore};
use crate::record::collection::{CollectionSpec, Collections};
use crossbeam_channel::{Receiver, Sender};
use milvus::proto::milvus::{DeleteRequest, MutationResult, UpsertRequest};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Cheap to make; connects with the first request and again whenever the connection was lost.
pub struct MilvusStore {
    runtime: Handle,
    collections: Arc<Collections>,
    service: Service,
    deadline: Duration,
    /// As long as there are requests out, and no longer: whoever submits bounds it.
    answers: (Sender<StoreResponse>, Receiver<StoreResponse>),
    wake: Wake,
}

impl MilvusStore {
    /// Fails only on settings that can't be used; Milvus itself need not be there yet.
    pub fn new(runtime: Handle, collections: Arc<Collections>, settings: &MilvusSettings, wake: Wake) -> Result<Self> {
        let service = {
            let _inside = runtime.enter();
            lazy_service(settings)?
        };
        let deadline = settings.rpc_deadline;
        Ok(Self { runtime, collections, service, deadline, answers: crossbeam_channel::unbounded(), wake })
    }
}

impl VectorStore for MilvusStore {
    fn submit(&mut self, collection: CollectionId, request: StoreRequest, token: u64) {
        let submitted = Instant::now();
        let (collections, service, deadline) = (Arc::clone(&self.collections), self.service.clone(), self.deadline);
        let (answers, wake) = (self.answers.0.clone(), Arc::clone(&self.wake));
        self.runtime.spawn(async move {
            let spec = collections.get(collection);
            // A process that was stopped in between must not send what it decided on before.
            let outcome = if submitted.elapsed() < deadline {
                carry_out(service, spec, request, deadline).await
            } else {
                Err(StoreError::Unavailable(format!("not sent: {:?} passed before it could be", submitted.elapsed())))
            };
            // The receiver is gone only if the store was dropped: then nobody waits.
            if answers.send(StoreResponse { token, outcome }).is_ok() {
                wake();
            }
        });
    }

    fn poll(&mut self, responses: &mut Vec<StoreResponse>) {
        responses.extend(self.answers.1.try_iter());
    }
}

async fn carry_out(
    service: Service,
    spec: &CollectionSpec,
    request: StoreRequest,
    deadline: Duration,
) -> Result<StoreReply, StoreError> {
    match request {
        StoreRequest::Write(batch) => match tokio::time::timeout(deadline, write(service, spec, &batch, deadline)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::Ambiguous(format!("no reply from {} within {deadline:?}", spec.name))),
        },
        StoreRequest::ReadBack(ids) => {
            let reading = read::versions_of(service, spec, &ids, read::Freshness::Strong);
            in_time(reading, spec, deadline).await.map(StoreReply::ReadBack)
        }
        StoreRequest::Compare(expected) => {
            in_time(read::compared(service, spec, &expected), spec, deadline).await.map(StoreReply::ReadBack)
        }
        StoreRequest::Scan { after, limit } => {
            let reading = read::page(service, spec, after.as_ref(), limit);
            in_time(reading, spec, deadline).await.map(StoreReply::Scanned)
        }
    }
}

/// A read's answer, or that there was none.
async fn in_time<T>(
    reading: impl Future<Output = Result<T, StoreError>>,
    spec: &CollectionSpec,
    deadline: Duration,
) -> Result<T, StoreError> {
    let unread = |_| Err(StoreError::Unavailable(format!("{} not read within {deadline:?}", spec.name)));
    tokio::time::timeout(deadline, reading).await.unwrap_or_else(unread)
}

/// Upserts and deletes side by side: a row key occurs in one of them only.
async fn write(service: Service, spec: &CollectionSpec, batch: &RowBatch, deadline: Duration) -> Result<StoreReply, StoreError> {
    let upserts = write::upsert_request(spec, batch)?;
    let deletes = write::delete_request(spec, &batch.deletes)?;
    let outcomes = tokio::join!(upsert(service.clone(), upserts, deadline), delete(service, deletes, deadline));
    match outcomes {
        (Ok(upserted), Ok(deleted)) => Ok(StoreReply::Written { written_at: upserted.max(deleted) }),
        (Err(one), Err(other)) => Err(fault::graver(one, other)),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
    }
}

pub(super) async fn upsert(mut service: Service, request: Option<UpsertRequest>, deadline: Duration) -> Result<u64, StoreError> {
    let Some(request) = request else { return Ok(0) };
    let mut request = tonic::Request::new(request);
    request.set_timeout(deadline);
    written_at(service.upsert(request).await)
}

async fn delete(mut service: Service, request: Option<DeleteRequest>, deadline: Duration) -> Result<u64, StoreError> {
    let Some(request) = request else { return Ok(0) };
    let mut request = tonic::Request::new(request);
    request.set_timeout(deadline);
    written_at(service.delete(request).await)
}

/// Milvus' timestamp of the write; 2.3 tells none of a delete (0).
fn written_at(answer: Result<tonic::Response<MutationResult>, tonic::Status>) -> Result<u64, StoreError> {
    let result = answer.map_err(|status| fault::of_transport(&status))?.into_inner();
    match fault::of_reply(result.status.as_ref()) {
        None => Ok(result.timestamp),
        Some(error) => Err(error),
    }
}
