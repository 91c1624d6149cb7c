//! Floor 2: the decoders. Each turns the bytes of one request into [`crate::record::Record`]s for a
//! [`crate::record::RecordSink`]; none knows what becomes of them.

pub mod line;
pub mod json;
pub mod timestream;
pub mod csv;
