//! The little that rdkafka's safe interface lacks, and all the `unsafe` there is:
//!
//! - copying a message out: many messages share one allocation, and a header name that is not UTF-8 is read
//!   with replacement characters (rdkafka panics on it, so that one such record would stop a partition for ever);
//! - reading a partition by batches with librdkafka's partition API: the end of a partition comes with its
//!   offset, which rdkafka throws away, and a batch costs half of what single polls do;
//! - describing a topic with its id, by which it is told from another one of its name;
//! - describing a group with what each of its members has;
//! - naming the bootstrap servers to a client once more;
//! - waking when a producer has delivery reports.

use crate::base::ids::TopicId;
use crate::base::time::UnixMs;
use crate::port::log::{TopicDescription, Wake};
use crate::record::raw::{RawHeader, RawRecord};
use bytes::{Bytes, BytesMut};
use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaErrorCode;
use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

/// Messages are copied into chunks of this size (a larger message has its own). A record that is kept keeps its
/// whole chunk, so they are not larger.
const CHUNK_BYTES: usize = 64 * 1024;
/// Header names are few and repeat; past this many they are not shared any more.
const SHARED_NAMES: usize = 32;

/// Copies messages out of librdkafka's memory.
#[derive(Default)]
pub(super) struct Copier {
    chunk: BytesMut,
    names: Vec<Arc<str>>,
}

impl Copier {
    pub fn copy(&mut self, message: &BorrowedMessage<'_>, topic: Arc<str>) -> RawRecord {
        // SAFETY: a borrowed message points to a message without error that lives as long as the borrow.
        unsafe { self.copy_native(&*message.ptr(), topic) }
    }

    /// # Safety
    /// `message` is one that librdkafka handed out, without error and not destroyed yet.
    unsafe fn copy_native(&mut self, message: &native::rd_kafka_message_t, topic: Arc<str>) -> RawRecord {
        // SAFETY: as the caller promises, key and payload are valid for the lengths beside them.
        let (key, value) = unsafe { (bytes_at(message.key, message.key_len), bytes_at(message.payload, message.len)) };
        let (key, value) = self.store(key, value);
        // SAFETY: the message is valid; the type of the timestamp is not asked for.
        let timestamp = unsafe { native::rd_kafka_message_timestamp(message, ptr::null_mut()) };
        RawRecord {
            topic,
            partition: message.partition,
            offset: message.offset,
            appended_at: UnixMs(timestamp),
            key,
            value,
            // SAFETY: as above.
            headers: unsafe { self.copy_headers(message) },
        }
    }

    /// # Safety
    /// As [`Copier::copy_native`].
    unsafe fn copy_headers(&mut self, message: &native::rd_kafka_message_t) -> Vec<RawHeader> {
        let mut headers = Vec::new();
        let mut list = ptr::null_mut();
        // SAFETY: the message is valid; the list belongs to it and is not freed by us.
        let found = unsafe { native::rd_kafka_message_headers(message, &mut list) };
        if found != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return headers;
        }
        loop {
            let (mut name, mut value, mut size) = (ptr::null::<c_char>(), ptr::null::<c_void>(), 0);
            // SAFETY: the list is valid; past its end the call returns an error and sets nothing.
            let next = unsafe { native::rd_kafka_header_get_all(list, headers.len(), &mut name, &mut value, &mut size) };
            if next != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return headers;
            }
            // SAFETY: a name is a NUL-terminated string, a value is valid for its size; both belong to the message.
            let (name, value) = unsafe { (CStr::from_ptr(name), bytes_at(value, size)) };
            let name = self.share_name(&name.to_string_lossy());
            let (value, _) = self.store(value, None);
            headers.push((name, value));
        }
    }

    fn share_name(&mut self, name: &str) -> Arc<str> {
        if let Some(shared) = self.names.iter().find(|shared| ***shared == *name) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = Arc::from(name);
        if self.names.len() < SHARED_NAMES {
            self.names.push(Arc::clone(&shared));
        }
        shared
    }

    /// Copies both side by side into the current chunk.
    fn store(&mut self, first: Option<&[u8]>, second: Option<&[u8]>) -> (Option<Bytes>, Option<Bytes>) {
        let first_len = first.map_or(0, <[u8]>::len);
        let needed = first_len + second.map_or(0, <[u8]>::len);
        if self.chunk.capacity() < needed {
            self.chunk = BytesMut::with_capacity(needed.max(CHUNK_BYTES));
        }
        self.chunk.extend_from_slice(first.unwrap_or_default());
        self.chunk.extend_from_slice(second.unwrap_or_default());
        let (one, other) = (self.chunk.split_to(first_len), self.chunk.split());
        (first.map(|_| one.freeze()), second.map(|_| other.freeze()))
    }
}

/// # Safety
/// `start` is null or valid for `length` bytes for as long as the result is used.
unsafe fn bytes_at<'a>(start: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast(), length) })
}

/// Wakes when the queue of a client's events is not empty any more. To be dropped before the client.
pub(super) struct Bell {
    queue: *mut native::rd_kafka_queue_t,
    /// What librdkafka is given a pointer to: it stays where it is.
    _wake: Box<Wake>,
}

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Bell {}

impl Bell {
    pub fn of_main_queue<C: ClientContext>(client: &Client<C>, wake: Wake) -> Self {
        unsafe extern "C" fn ring(_: *mut native::rd_kafka_t, wake: *mut c_void) {
            // SAFETY: it is the pointer given below, and valid until the callback is taken off in `drop`.
            unsafe { (*wake.cast::<Wake>())() }
        }
        let mut wake = Box::new(wake);
        let opaque: *mut Wake = &mut *wake;
        // SAFETY: the client is valid; the queue is given back in `drop`, after the callback was taken off.
        let queue = unsafe {
            let queue = native::rd_kafka_queue_get_main(client.native_ptr());
            native::rd_kafka_queue_cb_event_enable(queue, Some(ring), opaque.cast());
            queue
        };
        Self { queue, _wake: wake }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // SAFETY: the queue is valid. librdkafka rings with the queue's lock held, which taking the callback off waits for.
        unsafe {
            native::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            native::rd_kafka_queue_destroy(self.queue);
        }
    }
}

/// What a partition yields next.
pub(super) enum Taken {
    Record(RawRecord),
    /// The end was reached at this offset: everything below it has been read or is a hole.
    End(i64),
    Failed(RDKafkaErrorCode, String),
}

/// A sequential read of one partition, outside of any group; it ends when dropped.
pub(super) struct PartitionCursor<C: ConsumerContext> {
    /// Keeps the client alive for as long as the topic handle.
    consumer: Arc<BaseConsumer<C>>,
    handle: *mut native::rd_kafka_topic_t,
    topic: Arc<str>,
    partition: i32,
    batch: Vec<*mut native::rd_kafka_message_t>,
}

// SAFETY: librdkafka's handles may be used from any thread; `batch` holds no message between calls.
unsafe impl<C: ConsumerContext> Send for PartitionCursor<C> {}

const BATCH: usize = 2048;

impl<C: ConsumerContext> PartitionCursor<C> {
    pub fn start(consumer: Arc<BaseConsumer<C>>, topic: Arc<str>, partition: i32, offset: i64) -> Result<Self, RDKafkaErrorCode> {
        let name = CString::new(&*topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
        let client = consumer.client().native_ptr();
        // SAFETY: the client lives in `consumer`; a null configuration means the client's own.
        let handle = unsafe { native::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut()) };
        if handle.is_null() {
            return Err(last_error());
        }
        // SAFETY: the handle is valid; the partition need not exist.
        if unsafe { native::rd_kafka_consume_start(handle, partition, offset) } != 0 {
            let error = last_error();
            // SAFETY: not used any more.
            unsafe { native::rd_kafka_topic_destroy(handle) };
            return Err(error);
        }
        Ok(Self { consumer, handle, topic, partition, batch: vec![ptr::null_mut(); BATCH] })
    }

    /// Appends what has been fetched to `taken`; waits at most `patience` for the first.
    pub fn take(&mut self, patience: Duration, copier: &mut Copier, taken: &mut VecDeque<Taken>) -> Result<(), RDKafkaErrorCode> {
        // A batch call that may wait does so until the batch is full: so it never may, and one message is waited for.
        if self.take_batch(BATCH, Duration::ZERO, copier, taken)? == 0 && self.take_batch(1, patience, copier, taken)? > 0 {
            self.take_batch(BATCH, Duration::ZERO, copier, taken)?;
        }
        Ok(())
    }

    fn take_batch(
        &mut self,
        limit: usize,
        patience: Duration,
        copier: &mut Copier,
        taken: &mut VecDeque<Taken>,
    ) -> Result<usize, RDKafkaErrorCode> {
        let patience_ms = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the handle is valid and the batch has room for `limit` (≤ BATCH) pointers.
        let count =
            unsafe { native::rd_kafka_consume_batch(self.handle, self.partition, patience_ms, self.batch.as_mut_ptr(), limit) };
        let count = usize::try_from(count).map_err(|_| last_error())?;
        for message in &mut self.batch[..count] {
            // SAFETY: the call filled `count` valid messages; each is destroyed once, after its last use.
            unsafe {
                taken.push_back(take_message(&**message, &self.topic, copier));
                native::rd_kafka_message_destroy(*message);
            }
            *message = ptr::null_mut();
        }
        Ok(count)
    }

    pub fn consumer(&self) -> &BaseConsumer<C> {
        &self.consumer
    }
}

impl<C: ConsumerContext> Drop for PartitionCursor<C> {
    fn drop(&mut self) {
        // SAFETY: started in `start`, and the handle is used by nobody else.
        unsafe {
            native::rd_kafka_consume_stop(self.handle, self.partition);
            native::rd_kafka_topic_destroy(self.handle);
        }
    }
}

/// # Safety
/// `message` is one that librdkafka handed out and that is not destroyed yet.
unsafe fn take_message(message: &native::rd_kafka_message_t, topic: &Arc<str>, copier: &mut Copier) -> Taken {
    match RDKafkaErrorCode::from(message.err) {
        // SAFETY: as the caller promises, and there is no error.
        RDKafkaErrorCode::NoError => Taken::Record(unsafe { copier.copy_native(message, Arc::clone(topic)) }),
        RDKafkaErrorCode::PartitionEOF => Taken::End(message.offset),
        code => {
            // SAFETY: the payload of an error is its text.
            let text = unsafe { bytes_at(message.payload, message.len) }.unwrap_or_default();
            Taken::Failed(code, String::from_utf8_lossy(text).into_owned())
        }
    }
}

/// Asks a broker (the controller, if none is given) for one topic and waits for the answer, at most for `patience`.
pub(super) fn describe_topic<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    broker: Option<i32>,
    patience: Duration,
) -> Result<TopicDescription, RDKafkaErrorCode> {
    let client = consumer.client().native_ptr();
    let name = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    let patience_ms = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: the client lives as long as `consumer`; each thing is given back once, by the function made for it; the
    // collection copies the name.
    let (queue, options, topics) = unsafe {
        (
            Owned::new(native::rd_kafka_queue_new(client), native::rd_kafka_queue_destroy)?,
            Owned::new(native::rd_kafka_AdminOptions_new(client, operation), native::rd_kafka_AdminOptions_destroy)?,
            Owned::new(
                native::rd_kafka_TopicCollection_of_topic_names(&mut name.as_ptr(), 1),
                native::rd_kafka_TopicCollection_destroy,
            )?,
        )
    };
    // SAFETY: all handles are valid; the request keeps copies of the options and of the collection.
    let event = unsafe {
        let set = native::rd_kafka_AdminOptions_set_request_timeout(options.handle, patience_ms, ptr::null_mut(), 0);
        refused(set)?;
        if let Some(broker) = broker {
            refused(native::rd_kafka_AdminOptions_set_broker(options.handle, broker, ptr::null_mut(), 0))?;
        }
        native::rd_kafka_DescribeTopics(client, topics.handle, options.handle, queue.handle);
        native::rd_kafka_queue_poll(queue.handle, patience_ms)
    };
    let Ok(event) = Owned::new(event, native::rd_kafka_event_destroy) else {
        return Err(RDKafkaErrorCode::OperationTimedOut);
    };
    // SAFETY: the event is valid, and the queue has no other kind than the one result.
    unsafe {
        refused(native::rd_kafka_event_error(event.handle))?;
        read_description(native::rd_kafka_event_DescribeTopics_result(event.handle))
    }
}

/// A group as its coordinator describes it.
pub(super) struct DescribedGroup {
    pub is_stable: bool,
    pub members: Vec<DescribedMember>,
}

pub(super) struct DescribedMember {
    pub id: String,
    pub client_id: String,
    pub partitions: Vec<(String, i32)>,
}

/// Asks a group's coordinator who its members are, and waits for the answer, at most for `patience`.
pub(super) fn describe_group<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    group: &str,
    patience: Duration,
) -> Result<DescribedGroup, RDKafkaErrorCode> {
    let client = consumer.client().native_ptr();
    let name = CString::new(group).map_err(|_| RDKafkaErrorCode::InvalidGroupId)?;
    let patience_ms = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    // SAFETY: the client lives as long as `consumer`; each thing is given back once, by the function made for it.
    let (queue, options) = unsafe {
        (
            Owned::new(native::rd_kafka_queue_new(client), native::rd_kafka_queue_destroy)?,
            Owned::new(native::rd_kafka_AdminOptions_new(client, operation), native::rd_kafka_AdminOptions_destroy)?,
        )
    };
    // SAFETY: all handles are valid; the request keeps copies of the options and of the name.
    let event = unsafe {
        let set = native::rd_kafka_AdminOptions_set_request_timeout(options.handle, patience_ms, ptr::null_mut(), 0);
        refused(set)?;
        native::rd_kafka_DescribeConsumerGroups(client, &mut name.as_ptr(), 1, options.handle, queue.handle);
        native::rd_kafka_queue_poll(queue.handle, patience_ms)
    };
    let Ok(event) = Owned::new(event, native::rd_kafka_event_destroy) else {
        return Err(RDKafkaErrorCode::OperationTimedOut);
    };
    // SAFETY: the event is valid, and the queue has no other kind than the one result.
    unsafe {
        refused(native::rd_kafka_event_error(event.handle))?;
        read_group(native::rd_kafka_event_DescribeConsumerGroups_result(event.handle))
    }
}

/// # Safety
/// `result` is null or the answer to a request for one group, and not destroyed yet.
unsafe fn read_group(
    result: *const native::rd_kafka_DescribeConsumerGroups_result_t,
) -> Result<DescribedGroup, RDKafkaErrorCode> {
    if result.is_null() {
        return Err(RDKafkaErrorCode::BadMessage);
    }
    let mut groups = 0;
    // SAFETY: the result is valid, and so is what it holds; one whose count is not zero is not null.
    unsafe {
        let found = native::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut groups);
        if groups == 0 {
            return Err(RDKafkaErrorCode::GroupIdNotFound);
        }
        let error = native::rd_kafka_ConsumerGroupDescription_error(*found);
        if !error.is_null() {
            refused(native::rd_kafka_error_code(error))?;
        }
        let state = native::rd_kafka_ConsumerGroupDescription_state(*found);
        let count = native::rd_kafka_ConsumerGroupDescription_member_count(*found);
        let members = (0..count).map(|index| read_member(native::rd_kafka_ConsumerGroupDescription_member(*found, index)));
        let is_stable = state == native::rd_kafka_consumer_group_state_t::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE;
        Ok(DescribedGroup { is_stable, members: members.collect() })
    }
}

/// # Safety
/// `member` is one of a description that is not destroyed yet.
unsafe fn read_member(member: *const native::rd_kafka_MemberDescription_t) -> DescribedMember {
    // SAFETY: the texts are NUL-terminated and belong to the member; an assignment that is not there is null.
    unsafe {
        let assignment = native::rd_kafka_MemberDescription_assignment(member);
        let list = if assignment.is_null() { ptr::null() } else { native::rd_kafka_MemberAssignment_partitions(assignment) };
        DescribedMember {
            id: text(native::rd_kafka_MemberDescription_consumer_id(member)),
            client_id: text(native::rd_kafka_MemberDescription_client_id(member)),
            partitions: partitions(list),
        }
    }
}

/// # Safety
/// `list` is null or valid.
unsafe fn partitions(list: *const native::rd_kafka_topic_partition_list_t) -> Vec<(String, i32)> {
    // SAFETY: a list's elements are valid for its count, and their topics are NUL-terminated.
    unsafe {
        let Some(list) = list.as_ref().filter(|list| !list.elems.is_null()) else { return Vec::new() };
        let elements = std::slice::from_raw_parts(list.elems, usize::try_from(list.cnt).unwrap_or(0));
        elements.iter().map(|element| (text(element.topic), element.partition)).collect()
    }
}

/// # Safety
/// `start` is null or a NUL-terminated string.
unsafe fn text(start: *const c_char) -> String {
    // SAFETY: as the caller promises.
    if start.is_null() { String::new() } else { unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned() }
}

/// # Safety
/// `result` is null or the answer to a request for one topic, and not destroyed yet.
unsafe fn read_description(
    result: *const native::rd_kafka_DescribeTopics_result_t,
) -> Result<TopicDescription, RDKafkaErrorCode> {
    if result.is_null() {
        return Err(RDKafkaErrorCode::BadMessage);
    }
    let (mut topics, mut partitions) = (0, 0);
    // SAFETY: the result is valid, and so is what it holds; one whose count is not zero is not null.
    unsafe {
        let found = native::rd_kafka_DescribeTopics_result_topics(result, &mut topics);
        if topics == 0 {
            return Err(RDKafkaErrorCode::UnknownTopicOrPartition);
        }
        let error = native::rd_kafka_TopicDescription_error(*found);
        if !error.is_null() {
            refused(native::rd_kafka_error_code(error))?;
        }
        native::rd_kafka_TopicDescription_partitions(*found, &mut partitions);
        let id = topic_id(native::rd_kafka_TopicDescription_topic_id(*found));
        Ok(TopicDescription { partitions: i32::try_from(partitions).unwrap_or(i32::MAX), id })
    }
}

/// None of a broker that gives no ids: librdkafka says zero then.
///
/// # Safety
/// `uuid` is null or valid, and nobody else uses it meanwhile.
unsafe fn topic_id(uuid: *const native::rd_kafka_Uuid_t) -> Option<TopicId> {
    if uuid.is_null() {
        return None;
    }
    // SAFETY: as the caller promises; the text belongs to the id, and is null if there was no memory for it.
    unsafe {
        if native::rd_kafka_Uuid_most_significant_bits(uuid) == 0 && native::rd_kafka_Uuid_least_significant_bits(uuid) == 0 {
            return None;
        }
        let text = native::rd_kafka_Uuid_base64str(uuid);
        (!text.is_null()).then(|| TopicId::new(CStr::from_ptr(text).to_string_lossy()))
    }
}

/// Those that the client still knows by these names are left as they are.
pub(super) fn name_brokers<C: ClientContext>(client: &Client<C>, servers: &CStr) {
    // SAFETY: the client is alive, and the text is copied.
    unsafe { native::rd_kafka_brokers_add(client.native_ptr(), servers.as_ptr()) };
}

/// Something that librdkafka made for us, given back when dropped.
struct Owned<T> {
    handle: *mut T,
    give_back: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// An error if nothing was made. `give_back` is the function that destroys what `handle` points to.
    fn new(handle: *mut T, give_back: unsafe extern "C" fn(*mut T)) -> Result<Self, RDKafkaErrorCode> {
        if handle.is_null() { Err(last_error()) } else { Ok(Self { handle, give_back }) }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and is not used any more.
        unsafe { (self.give_back)(self.handle) };
    }
}

fn refused(code: native::rd_kafka_resp_err_t) -> Result<(), RDKafkaErrorCode> {
    match code.into() {
        RDKafkaErrorCode::NoError => Ok(()),
        error => Err(error),
    }
}

fn last_error() -> RDKafkaErrorCode {
    // SAFETY: reads a thread-local number.
    unsafe { native::rd_kafka_last_error() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_parts_share_a_chunk_and_null_is_not_empty() {
        let mut copier = Copier::default();
        let (key, value) = copier.store(Some(b"key"), Some(b"value"));
        let (key, value) = (key.unwrap(), value.unwrap());
        assert_eq!((&key[..], &value[..]), (&b"key"[..], &b"value"[..]));
        assert_eq!(key.as_ptr() as usize + 3, value.as_ptr() as usize);
        let (empty, none) = copier.store(Some(b""), None);
        assert_eq!((empty.as_deref(), none), (Some(&b""[..]), None));
        let large = vec![7; CHUNK_BYTES * 2];
        assert_eq!(copier.store(None, Some(&large)).1.unwrap(), large);
        assert_eq!(&value[..], b"value", "what was handed out stays");
    }
}
