//! A look at a group of an embedded broker.

use super::broker::Broker;
use crate::base::error::Result;
use crate::port::group::{GroupMember, GroupView};
use std::sync::Arc;

pub struct EmbeddedGroupView {
    broker: Arc<Broker>,
    group: String,
}

impl EmbeddedGroupView {
    pub fn new(broker: Arc<Broker>, group: impl Into<String>) -> Self {
        Self { broker, group: group.into() }
    }
}

impl GroupView for EmbeddedGroupView {
    fn members(&mut self) -> Result<Option<Vec<GroupMember>>> {
        Ok(self.broker.members(&self.group))
    }
}
