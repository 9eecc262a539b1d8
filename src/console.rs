//! The console: one page that says whether all is well, and if not, which link, which stage, since when.
//!
//! What it shows is a [`plant`]: the regions of this process, each by the report that its stream threads publish. Once a
//! second a [`Console`] looks at it, compares with what it saw before (rates, [`history`], [`conditions`] and since when
//! they hold), and writes one JSON [`snapshot`], which all open pages get. Dead letters and conflicts it is told by a
//! [`tap`] on the appender. It changes nothing: only the demo has links that can be cut from here.
//!
//! It alone owns what is remembered for showing, all of it bounded, and the page's files.

mod assets;
pub mod conditions;
mod findings;
mod flow;
mod history;
mod links;
pub mod plant;
mod rates;
pub mod routes;
pub mod server;
mod snapshot;
mod state;
pub mod tap;
#[cfg(test)]
mod tests;

pub use state::{Console, TICK};
