//! The rule by which every region picks the same winner. It lives here and nowhere else.

pub mod hlc;
pub mod lww;
pub mod version;
