//! Files that come in the place of others in a directory whose name has another number: `lib/modules/6.9.1/a.ko` of one
//! version of a kernel is `lib/modules/6.10.1/a.ko` of the next, and most of its chunks are the same. Which file it was is
//! only a hint where to look for bytes; what is found is verified.

use std::collections::HashMap;

use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::Node;

use super::{ApplyPlan, Change};

/// Says of contents that replace nothing which of the files that go they are likely to share bytes with.
pub(super) fn find(plan: &mut ApplyPlan) {
    let mut gone: HashMap<Vec<u8>, &[u8]> = HashMap::new();
    for action in plan.actions.iter().filter(|action| matches!(action.change, Change::Delete)) {
        gone.entry(without_numbers(&action.path)).or_insert(&action.path);
    }
    let mut found: HashMap<ContentId, Box<[u8]>> = HashMap::new();
    for action in &plan.actions {
        let Change::Put(Node::File(content), _) = &action.change else { continue };
        if let Some(path) = gone.get(&without_numbers(&action.path)) {
            found.entry(content.id).or_insert_with(|| (*path).into());
        }
    }
    for need in plan.needs.iter_mut().filter(|need| need.former.is_none()) {
        need.former = found.remove(&need.content.id);
    }
}

/// A path in which every number of a directory is the same. The name of the file itself is kept.
fn without_numbers(path: &[u8]) -> Vec<u8> {
    let name = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for byte in &path[..name] {
        if !byte.is_ascii_digit() {
            out.push(*byte);
        } else if out.last() != Some(&b'0') {
            out.push(b'0');
        }
    }
    out.extend_from_slice(&path[name..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_directories_do_not_tell_paths_apart() {
        #[track_caller]
        fn check(one: &str, other: &str, is_same: bool) {
            let same = without_numbers(one.as_bytes()) == without_numbers(other.as_bytes());
            assert_eq!(same, is_same, "{one} {other}");
        }
        check("lib/modules/6.9.1-gentoo/a.ko", "lib/modules/6.10.12-gentoo/a.ko", true);
        check("lib/modules/6.9.1/a.ko", "lib/modules/6.9.2/b.ko", false);
        check("crypto/sha256.ko", "crypto/sha512.ko", false);
        check("a1/b", "a/b", false);
        check("a", "a", true);
    }
}
