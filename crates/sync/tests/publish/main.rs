//! Publishing trees from every kind of source into a store in memory.

#![cfg(test)]

mod destination;
mod directory;
mod git;
mod ingest;
mod tar;
