//! The group as its coordinator sees it: who is a member, in which process, and what each has.

use crate::base::error::Result;
use crate::base::ids::TopicPartition;

/// One member. Several threads of one process are several members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// As the coordinator calls it; where it has to choose between members, it goes by the order of these.
    pub id: String,
    /// What tells the members of one process from those of another.
    pub process: String,
    /// Of the subscribed topics.
    pub partitions: Vec<TopicPartition>,
}

/// A look at one group from outside. It may be old by the time it is looked at: nothing may rest on its being true.
/// Calls take as long as a round trip, and fail with [`crate::base::error::Remedy::Retry`] when nobody answers.
pub trait GroupView: Send {
    /// `None` while the partitions are being shared out anew.
    fn members(&mut self) -> Result<Option<Vec<GroupMember>>>;
}
