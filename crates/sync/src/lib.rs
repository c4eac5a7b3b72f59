//! Trust, manifests in motion, applying.

pub mod fetch_plan;
pub mod wire;
