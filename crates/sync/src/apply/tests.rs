//! Applying on real directories.

mod attacks;
mod changes;
mod crash;
mod fixture;
mod fresh;
mod overlay;
mod refusals;
mod scanning;
mod snapshots;
mod staging;
mod system;
mod together;
mod versions;
