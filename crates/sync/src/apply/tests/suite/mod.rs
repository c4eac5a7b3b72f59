//! What hostile trees, hosts and disks can do to a target: one suite that every kind of target runs.
//!
//! A case is a function that gets hosts of the kind that is tested, as many as it needs. The numbers are those of the
//! project's list of bad inputs. What never becomes a tree is refused before any target is asked, and tested where that
//! happens: `..`, `.`, the empty path and name, absolute paths, `/` and NUL in names, `.git`, paths of more than 4096
//! bytes and so more than 2048 levels (88 to 93, 95, 101, 102) in `manifest/path.rs` of the store and with the real program
//! in `client_hostile/names.rs`. What only some file systems make dangerous is refused there (94, 96 to 99, 104):
//! `preflight.rs`, and `names.rs` on four such file systems; here it is what is accepted everywhere else.
//!
//! A power cut (141, 145) is played in `power_loss.rs` and `kill_versions.rs`, by what was made durable when.

mod disks;
mod links;
mod names;
mod nodes;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::fixture::Host;
use smart_sync_tests::BtrfsDisk;
use smart_sync_tests::folding_disk::in_namespace_of_root;

/// Makes a host of the kind that is tested.
type Make<'m> = &'m dyn Fn() -> Host;

/// What is tested: its number or numbers in the list, what it is, and the test.
type Case = (&'static str, fn(Make<'_>));

/// Runs every case, whatever came of those before.
fn run(make: Make<'_>) {
    let cases = [names::CASES, nodes::CASES, links::CASES, disks::CASES];
    let fails = |case: fn(Make<'_>)| catch_unwind(AssertUnwindSafe(|| case(make))).is_err();
    let failed: Vec<&str> =
        cases.into_iter().flatten().filter(|(_, case)| fails(*case)).map(|(what, _)| *what).collect();
    assert!(failed.is_empty(), "these cases failed: {failed:#?}");
}

#[test]
fn a_directory_passes_the_suite() {
    run(&Host::new);
}

#[test]
fn directories_of_versions_pass_the_suite() {
    run(&Host::with_generations);
}

#[test]
fn a_subvolume_passes_the_suite() {
    if !in_namespace_of_root() {
        return;
    }
    let machine = tempfile::tempdir().unwrap();
    let disk = machine.path().join("disk");
    let Some(_disk) = BtrfsDisk::mount(&machine.path().join("image"), &disk) else { return };
    run(&|| Host::with_subvolume(&disk));
}

#[test]
fn a_dataset_passes_the_suite() {
    run(&Host::with_dataset);
}

#[test]
fn an_overlay_passes_the_suite() {
    run(&Host::with_overlay);
}
