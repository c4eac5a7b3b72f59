//! Trust, manifests in motion, applying.

pub mod exclude;
pub mod ingest;
pub mod source;
