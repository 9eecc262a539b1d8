//! What librdkafka's statistics say about fetching. The error for an offset out of range names no partition;
//! the partition that has stopped is found here.

use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Deserialize)]
struct Statistics<'a> {
    #[serde(borrow, default)]
    topics: HashMap<&'a str, Topic<'a>>,
}

#[derive(Deserialize)]
struct Topic<'a> {
    #[serde(borrow, default)]
    partitions: HashMap<&'a str, Partition<'a>>,
}

#[derive(Deserialize)]
struct Partition<'a> {
    fetch_state: &'a str,
}

/// Partitions whose fetcher has stopped by itself (or was never started).
pub(super) fn stopped_partitions(statistics: &[u8]) -> serde_json::Result<Vec<(Arc<str>, i32)>> {
    let statistics: Statistics = serde_json::from_slice(statistics)?;
    let mut stopped = Vec::new();
    for (name, topic) in &statistics.topics {
        let name: Arc<str> = Arc::from(*name);
        for (number, partition) in &topic.partitions {
            // "-1" is librdkafka's own internal partition.
            let Some(number) = number.parse().ok().filter(|number| *number >= 0) else { continue };
            if partition.fetch_state == "none" {
                stopped.push((Arc::clone(&name), number));
            }
        }
    }
    Ok(stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_partitions_that_do_not_fetch_are_found() {
        let text = br#"{"name":"x","topics":{"t":{"age":1,"partitions":{
            "0":{"partition":0,"fetch_state":"active"},"1":{"partition":1,"fetch_state":"none"},
            "-1":{"partition":-1,"fetch_state":"none"}}}}}"#;
        assert_eq!(stopped_partitions(text).unwrap(), vec![(Arc::from("t"), 1)]);
    }
}
