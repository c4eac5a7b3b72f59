//! Packages of all kinds, sound and not.

mod check;
mod convert;
mod dependencies;
mod draft;
mod golden;
mod hostile;
mod image;
mod index;
mod parts;
mod redundant;
mod sign;
mod signatures;
mod tree;
