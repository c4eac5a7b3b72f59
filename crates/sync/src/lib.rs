//! Trust, manifests in motion, applying.
