//! The shell around the tasks: one thread's loop over consumer, tasks, appender and vector store, and the
//! restorer beside it that reads changelogs off the processing thread.

pub mod driver;
pub mod report;
pub mod restore;
pub mod restorer;
pub mod row_walk;
pub mod settings;
pub mod source_check;
pub mod standby;
pub mod stream_thread;
pub mod tail;
