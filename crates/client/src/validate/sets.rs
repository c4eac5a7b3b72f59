//! The checks that come with the program, in sets, and which of them a host has.

use std::path::Path;

use serde::Deserialize;

use super::item::Item;

/// A set of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SetName {
    /// Any host.
    Host,
    /// NixOS.
    Nixos,
    /// A configuration of NixOS that is a flake.
    Flake,
    /// Gentoo.
    Gentoo,
    /// A host of virtual machines.
    Hypervisor,
}

/// The file of a set: a list in the form of the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    validate: Vec<Item>,
}

/// A set, and what a host has that belongs to it.
const DETECTED: [(SetName, &str); 4] = [
    (SetName::Nixos, "/etc/NIXOS"),
    (SetName::Flake, "/etc/nixos/flake.nix"),
    (SetName::Gentoo, "/etc/gentoo-release"),
    (SetName::Hypervisor, "/etc/hypervisor"),
];

impl SetName {
    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Nixos => "nixos",
            Self::Flake => "flake",
            Self::Gentoo => "gentoo",
            Self::Hypervisor => "hypervisor",
        }
    }

    /// Its checks.
    pub fn items(self) -> Vec<Item> {
        let text = match self {
            Self::Host => include_str!("sets/host.toml"),
            Self::Nixos => include_str!("sets/nixos.toml"),
            Self::Flake => include_str!("sets/flake.toml"),
            Self::Gentoo => include_str!("sets/gentoo.toml"),
            Self::Hypervisor => include_str!("sets/hypervisor.toml"),
        };
        toml::from_str::<File>(text).expect("a test reads every set").validate
    }
}

/// The sets of a host: those that are configured, else those of what it is.
pub fn chosen(configured: Option<&[SetName]>, is_there: impl Fn(&Path) -> bool) -> Vec<SetName> {
    configured.map_or_else(
        || {
            let found = DETECTED.into_iter().filter(|(_, path)| is_there(Path::new(path)));
            std::iter::once(SetName::Host).chain(found.map(|(name, _)| name)).collect()
        },
        <[_]>::to_vec,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::item::Standing;

    const ALL: [SetName; 5] =
        [SetName::Host, SetName::Nixos, SetName::Flake, SetName::Gentoo, SetName::Hypervisor];

    #[test]
    fn every_set_is_well_formed_and_its_checks_have_names_of_their_own() {
        let mut names = Vec::new();
        for set in ALL {
            for item in set.items() {
                assert_eq!(item.mistake(Standing::Host), None);
                names.push(item.title());
            }
        }
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_host_has_the_sets_of_what_it_is_unless_they_are_configured() {
        assert_eq!(chosen(None, |_| false), [SetName::Host]);
        let nixos = chosen(None, |path| path == Path::new("/etc/NIXOS"));
        assert_eq!(nixos, [SetName::Host, SetName::Nixos]);
        assert_eq!(chosen(Some(&[SetName::Gentoo]), |_| true), [SetName::Gentoo]);
        assert_eq!(chosen(Some(&[]), |_| true), []);
    }
}
