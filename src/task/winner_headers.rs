//! The headers of a winner in the vectors changelog. Nearly all of them name the same origin, so what can be shared is
//! made once.

use crate::base::ids::Region;
use crate::record::headers;
use crate::record::raw::{RawHeader, RawRecord};
use bytes::Bytes;
use std::sync::Arc;

#[derive(Debug)]
pub struct WinnerHeaders {
    appended_at: Arc<str>,
    origin: Arc<str>,
    /// The last origin that was named, as it is written.
    last: Option<(Region, Bytes)>,
}

impl Default for WinnerHeaders {
    fn default() -> Self {
        Self { appended_at: headers::APPENDED_AT.into(), origin: headers::ORIGIN.into(), last: None }
    }
}

impl WinnerHeaders {
    /// When and where the change was accepted: the copy would lose it.
    pub fn of(&mut self, record: &RawRecord, origin: &Region) -> Vec<RawHeader> {
        let appended_at = Bytes::from(record.appended_at.to_string());
        vec![(self.appended_at.clone(), Some(appended_at)), (self.origin.clone(), Some(self.name_of(origin)))]
    }

    fn name_of(&mut self, origin: &Region) -> Bytes {
        if let Some((_, name)) = self.last.as_ref().filter(|(region, _)| region == origin) {
            return name.clone();
        }
        let name = Bytes::copy_from_slice(origin.as_str().as_bytes());
        self.last = Some((origin.clone(), name.clone()));
        name
    }
}
