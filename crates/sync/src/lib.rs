//! Trust, manifests in motion, applying.

pub mod apply;
