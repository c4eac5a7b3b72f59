//! Hostile servers against the real client.
//!
//! Every attack is played against a host that has followed the realm while it was honest: it has to be refused for
//! the right reason, to leave the target and, unless the publication was signed by those who may, all trust as they
//! were, byte for byte, and not to stand in the way of the honest answer that comes after.

mod bundles;
mod checkpoints;
mod contents;
mod log;
mod look;
mod moving;
mod names;
mod notes;
mod publications;
mod rebuilt;
mod roots;
mod scene;
mod transport;
