//! The ports' implementations. Each library is named in one folder only: rdkafka in `kafka`, Milvus' SDK in
//! `milvus`, fjall in `disk`; `embedded` brings in-memory ones, `system` the machine's clocks, `worker` asks one over HTTP.

pub mod disk;
pub mod embedded;
pub mod kafka;
pub mod milvus;
pub mod registry;
pub mod system;
pub mod worker;
