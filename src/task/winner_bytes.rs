//! What the two changelogs are given of a winner: key, entry and headers, made for every one of them and soon copied by the
//! log. Small pieces of one slab, which is used again once all of them are gone; and what is the same of nearly all
//! winners is made once.

use crate::base::ids::{Region, RowKey};
use crate::record::collection::Collections;
use crate::record::headers;
use crate::record::raw::{Headers, RawRecord};
use crate::store::entry::Entry;
use crate::store::row_key;
use bytes::{Bytes, BytesMut};
use smallvec::smallvec;
use std::fmt::Write;
use std::sync::Arc;

const SLAB_BYTES: usize = 64 << 10;
/// With less room than this a new slab is begun: more than most pieces take.
const ROOM_MIN: usize = 512;

#[derive(Debug)]
pub struct WinnerBytes {
    slab: BytesMut,
    appended_at: Arc<str>,
    origin: Arc<str>,
    /// The last origin that was named, as it is written.
    last: Option<(Region, Bytes)>,
}

impl Default for WinnerBytes {
    fn default() -> Self {
        Self { slab: BytesMut::new(), appended_at: headers::APPENDED_AT.into(), origin: headers::ORIGIN.into(), last: None }
    }
}

impl WinnerBytes {
    pub fn key(&mut self, key: &RowKey, collections: &Collections) -> Bytes {
        self.piece(|bytes| row_key::put(key, collections, bytes))
    }

    pub fn entry(&mut self, entry: &Entry) -> Bytes {
        self.piece(|bytes| entry.put(bytes))
    }

    /// When and where the change was accepted: the copy would lose it.
    pub fn headers(&mut self, record: &RawRecord, origin: &Region) -> Headers {
        let appended_at = self.piece(|bytes| write!(bytes, "{}", record.appended_at).expect("memory takes every write"));
        let origin = self.name_of(origin);
        smallvec![(self.appended_at.clone(), Some(appended_at)), (self.origin.clone(), Some(origin))]
    }

    fn name_of(&mut self, origin: &Region) -> Bytes {
        if let Some((_, name)) = self.last.as_ref().filter(|(region, _)| region == origin) {
            return name.clone();
        }
        let name = Bytes::copy_from_slice(origin.as_str().as_bytes());
        self.last = Some((origin.clone(), name.clone()));
        name
    }

    fn piece(&mut self, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        if self.slab.capacity() < ROOM_MIN {
            self.slab.reserve(SLAB_BYTES);
        }
        write(&mut self.slab);
        self.slab.split().freeze()
    }
}
