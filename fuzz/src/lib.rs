//! What the fuzz targets do with an input: one function for each decoder of the project.
//!
//! A function takes any bytes, and panics where a promise is broken: what is accepted has exactly one spelling, what
//! was accepted can be used without a panic, and a realm is believed only where its own keys have signed. A target is
//! a file of one line in `fuzz_targets/`; [`TARGETS`] names them all, so that seeds can be checked before they are
//! written.

pub mod binpkgs;
pub mod bundle;
pub mod host;
pub mod mirrored;
pub mod openpgp;
pub mod record;
pub mod store;
pub mod trust;
pub mod unpack;
pub mod wire;

use std::fmt::Display;
use std::str::FromStr;

/// What a decoder made of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was read, and its promises were kept.
    Accepted,
    /// It was refused with an error.
    Refused,
}

/// What a target does with an input.
pub type Target = fn(&[u8]) -> Verdict;

/// All targets by name.
pub const TARGETS: [(&str, Target); 56] = [
    ("applied_version", host::applied_version),
    ("kept_version", host::kept_version),
    ("ledger", host::ledger),
    ("binpkg_dependencies", binpkgs::dependencies),
    ("binpkg_gpkg", binpkgs::gpkg),
    ("binpkg_image", binpkgs::image),
    ("binpkg_index", binpkgs::index),
    ("binpkg_names", binpkgs::names),
    ("binpkg_xpak", binpkgs::xpak),
    ("bundle", bundle::bundle),
    ("bundle_frames", bundle::bundle_frames),
    ("bundle_head", bundle::bundle_head),
    ("checkpoint", record::checkpoint),
    ("client_config", host::client_config),
    ("content_cache", host::content_cache),
    ("delta", wire::delta),
    ("distfiles_layout", mirrored::layout),
    ("edits", store::edits),
    ("entry_bundle", wire::entry_bundle),
    ("evidence", trust::evidence),
    ("exclusions", host::exclusions),
    ("fetch_map", wire::fetch_map),
    ("frame", store::frame),
    ("git_tree", store::git_tree),
    ("head_line", record::head_line),
    ("heads", record::heads),
    ("journal", host::journal),
    ("locate", wire::locate),
    ("log_proof", trust::log_proof),
    ("manifest_page", store::manifest_page),
    ("names", record::names),
    ("note", record::note),
    ("openpgp", openpgp::openpgp),
    ("pack", store::pack),
    ("pack_index", store::pack_index),
    ("publication", record::publication),
    ("recipe", store::recipe),
    ("recipe_page", store::recipe_page),
    ("recipe_walk", store::recipe_walk),
    ("root", record::root),
    ("sealed", record::sealed),
    ("server_address", host::server_address),
    ("sidecar", record::sidecar),
    ("snapshot_archive", mirrored::snapshot),
    ("stages_digests", mirrored::digests),
    ("stages_latest", mirrored::latest),
    ("stat_cache", host::stat_cache),
    ("submission", wire::submission),
    ("tar", host::tar),
    ("tile_path", wire::tile_path),
    ("trust_state", trust::trust_state),
    ("trust_verify", trust::trust_verify),
    ("unpack_artifact", unpack::unpack_artifact),
    ("unpack_program", unpack::unpack_program),
    ("unpack_rebuild", unpack::unpack_rebuild),
    ("vkey", record::vkey),
];

/// What is accepted is written again as it was read.
pub(crate) fn check_bytes<T, E>(
    bytes: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, E>,
    encode: impl FnOnce(&T) -> Vec<u8>,
) -> Verdict {
    match decode(bytes) {
        Ok(value) => {
            assert_eq!(encode(&value), bytes, "what was accepted has two spellings");
            Verdict::Accepted
        }
        Err(_) => Verdict::Refused,
    }
}

/// The same for a text.
pub(crate) fn check_text<T, E>(
    bytes: &[u8],
    parse: impl FnOnce(&str) -> Result<T, E>,
    write: impl FnOnce(&T) -> String,
) -> Verdict {
    let Ok(text) = str::from_utf8(bytes) else { return Verdict::Refused };
    check_bytes(text.as_bytes(), |_| parse(text), |value| write(value).into_bytes())
}

/// The same for a name: a type that is read with `parse` and written with `to_string`.
pub(crate) fn check_name<T: FromStr + Display>(text: &str) -> Verdict {
    check_text(text.as_bytes(), str::parse::<T>, T::to_string)
}

/// Accepted where anything was.
pub(crate) fn any(verdicts: &[Verdict]) -> Verdict {
    if verdicts.contains(&Verdict::Accepted) { Verdict::Accepted } else { Verdict::Refused }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// How many other inputs are made of each seed.
    const DAMAGES: usize = 24;

    /// The seeds of a target, with their names.
    fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
        let entries = fs::read_dir(folder).expect("every target has seeds");
        let mut seeds: Vec<_> = entries
            .map(|entry| entry.expect("a directory can be read").path())
            .map(|path| (path.display().to_string(), fs::read(&path).expect("a file can be read")))
            .collect();
        seeds.sort_unstable();
        seeds
    }

    #[test]
    fn every_target_accepts_its_seeds() {
        for (name, target) in TARGETS {
            let seeds = seeds(name);
            assert!(!seeds.is_empty(), "{name} has no seed");
            for (path, seed) in seeds {
                assert_eq!(target(&seed), Verdict::Accepted, "{path}");
            }
        }
    }

    /// Not what a fuzzer does, but without one: seeds that end early, are longer, or have a byte that is another one.
    #[test]
    fn damaged_seeds_break_no_promise() {
        for (name, target) in TARGETS {
            for (path, seed) in seeds(name) {
                let mut number =
                    u64::from_le_bytes(*blake3::hash(path.as_bytes()).as_bytes().first_chunk().unwrap());
                for damage in 0..DAMAGES {
                    number = number
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let at = usize::try_from(number >> 33).unwrap() % seed.len().max(1);
                    let mut input = seed.clone();
                    match damage % 4 {
                        0 => input.truncate(at),
                        1 => input.extend_from_slice(&seed[at.min(seed.len())..]),
                        _ => {
                            if let Some(byte) = input.get_mut(at) {
                                *byte ^= 1 << (number % 8);
                            }
                        }
                    }
                    // What it is does not matter: a broken promise is a panic.
                    let _ = target(&input);
                }
            }
        }
    }
}
