//! Following a realm that is there as files alone: on plain web servers, on a disk, and on several mirrors of which
//! some are old, damaged or dead.

mod disk;
mod export;
mod scene;
mod several;
mod web;
