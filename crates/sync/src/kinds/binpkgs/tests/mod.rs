//! Packages of all kinds, sound and not.

mod convert;
mod dependencies;
mod draft;
mod golden;
mod hostile;
mod image;
mod index;
mod parts;
mod sign;
mod signatures;
