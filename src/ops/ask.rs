//! One request to the vector store, and its answer.

use crate::base::ids::CollectionId;
use crate::port::vector::{StoreError, StoreReply, StoreRequest, VectorStore};
use std::thread;

/// Waits for the answer. The store wakes the calling thread (see [`wake`](crate::ops::append::wake)), which has no
/// other request out.
pub fn ask(store: &mut dyn VectorStore, collection: CollectionId, request: StoreRequest) -> Result<StoreReply, StoreError> {
    store.submit(collection, request, 0);
    let mut responses = Vec::new();
    loop {
        store.poll(&mut responses);
        match responses.pop() {
            Some(response) => return response.outcome,
            None => thread::park(),
        }
    }
}
