//! The log's ports: appender, reader, group consumer.
//!
//! Each check is a function over a [`LogUnderTest`]; [`all`] runs them one after the other. They panic where
//! the log does not behave.

mod appending;
mod group;
mod member;

pub use appending::*;
pub use group::*;
pub use member::Member;

use crate::adapter::system::SystemClock;
use crate::base::time::Clock;
use crate::port::group::GroupView;
use crate::port::log::{Appender, GroupConsumer, LogReader};
use std::sync::Arc;
use std::time::Duration;

/// Makes clients of one log, and lets time pass.
pub trait LogUnderTest {
    /// A name that no other check uses.
    fn unique(&mut self, base: &str) -> Arc<str>;

    fn create_topic(&mut self, topic: &str, partitions: i32);

    fn delete_topic(&mut self, topic: &str);

    /// Joins a group that subscribes to `local`, with `mirror` as its co-topic.
    fn join(&mut self, group: &str, local: &Arc<str>, mirror: &Arc<str>) -> Box<dyn GroupConsumer>;

    /// A look at that group from outside.
    fn view(&mut self, group: &str) -> Box<dyn GroupView>;

    fn appender(&mut self) -> Box<dyn Appender>;

    fn reader(&mut self) -> Box<dyn LogReader>;

    /// Waits until some client has been woken, or for a short moment.
    fn wait(&mut self);
}

/// A check gives up after so many waits, where time passes by waits alone; and after so long, where a wait may be as
/// short as the next of a thousand acks.
const PATIENCE_WAITS: usize = 3_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Polls `step` until it yields something.
pub fn until<T>(log: &mut dyn LogUnderTest, what: &str, mut step: impl FnMut(&mut dyn LogUnderTest) -> Option<T>) -> T {
    let (clock, mut waits) = (SystemClock::start(), 0);
    loop {
        if let Some(outcome) = step(log) {
            return outcome;
        }
        let given_up = waits >= PATIENCE_WAITS && clock.now().monotonic >= PATIENCE;
        assert!(!given_up, "never happened: {what}");
        log.wait();
        waits += 1;
    }
}

pub fn all(log: &mut dyn LogUnderTest) {
    appends_are_acknowledged_in_order_and_read_back_whole(log);
    a_read_begins_anywhere_and_its_position_ends_at_the_end(log);
    an_unknown_topic_has_no_partitions(log);
    a_topic_keeps_its_id_and_has_another_one_when_it_is_created_again(log);
    an_offset_is_found_by_the_time_of_its_append(log);
    nothing_is_fetched_before_it_is_asked_for_and_a_second_request_goes_back(log);
    a_paused_partition_is_silent_and_loses_nothing(log);
    a_member_for_which_nothing_is_left_is_told_so(log);
    a_look_at_the_group_shows_what_each_member_has(log);
    a_revocation_waits_for_its_release(log);
    a_member_that_leaves_hands_its_partitions_over(log);
    a_member_may_leave_with_a_revocation_unanswered(log);
    a_position_beyond_the_log_is_reported_and_can_be_mended(log);
}
