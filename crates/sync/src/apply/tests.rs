//! Applying on real directories.

mod attacks;
mod changes;
mod crash;
mod fixture;
mod refusals;
mod scanning;
mod staging;
mod system;
