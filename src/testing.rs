//! What tests are made with. Public: users test their own topologies with it.

pub mod conformance;
