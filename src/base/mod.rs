//! Floor 0: what every other module stands on and what tests drive and break. Time, files, threads
//! and the log's numbers come from here; nothing of ours is below.

pub mod class;
pub mod near;
pub mod units;
pub mod lsn;
pub mod clock;
pub mod poison;
pub mod thread;
pub mod fs;
pub mod identity;
