//! Profiles that build on each other, as one: what each says of a target, key by key, the last one winning.
//!
//! A pure function of the layers. Each value keeps where it stands, so that whoever wonders about a machine is shown
//! the line to change.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::de::{DeTable, DeValue};

use super::document::FILE;
use crate::config::TargetConfig;

/// Who says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A profile, by its channel and ref.
    Profile(String),
    /// The configuration of this host.
    Host,
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// In whose file.
    pub source: Source,
    /// In which line, from 1.
    pub line: usize,
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Profile(name) => write!(f, "{name}, {FILE} line {}", self.line),
            Source::Host => write!(f, "the configuration, line {}", self.line),
        }
    }
}

/// A value, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// The value.
    pub value: toml::Value,
    /// Where it stands.
    pub from: From,
}

// There are no numbers with a point in a target's table.
impl Eq for Given {}

/// What is said of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The directory.
    pub directory: PathBuf,
    /// Where it is mentioned first.
    pub line: usize,
    /// What is said, by its key.
    pub keys: BTreeMap<String, Given>,
}

impl Section {
    /// The table of what is said, or of what some of the sources say.
    pub fn table(&self, is_wanted: impl Fn(&From) -> bool) -> toml::Table {
        let wanted = self.keys.iter().filter(|(_, given)| is_wanted(&given.from));
        wanted.map(|(key, given)| (key.clone(), given.value.clone())).collect()
    }

    /// The same as a table of the configuration. Each value was read as one before.
    pub fn config(&self) -> Result<TargetConfig, toml::de::Error> {
        TargetConfig::deserialize(toml::Value::Table(self.table(|_| true)))
    }
}

/// What one file says of targets, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer {
    /// One for each target.
    pub sections: Vec<Section>,
}

impl Layer {
    /// Reads the table `targets` of a profile, which was read as one.
    pub fn read(name: &str, text: &str) -> Self {
        Self::of(&Source::Profile(name.to_owned()), text)
    }

    /// Reads the table `targets` of the configuration, which was read as one.
    pub fn of_host(text: &str) -> Self {
        Self::of(&Source::Host, text)
    }

    fn of(source: &Source, text: &str) -> Self {
        let (Ok(spanned), Ok(plain)) = (DeTable::parse(text), text.parse::<toml::Table>()) else {
            return Self::default();
        };
        let lines = Lines::of(text);
        let targets = spanned.get_ref().iter().find(|(key, _)| key.get_ref() == "targets");
        let Some(DeValue::Table(targets)) = targets.map(|(_, value)| value.get_ref()) else {
            return Self::default();
        };
        let mut sections = Vec::new();
        for (directory, table) in targets {
            let DeValue::Table(table) = table.get_ref() else { continue };
            let values = plain["targets"].get(&**directory.get_ref());
            let keys = table.iter().filter_map(|(key, _)| {
                let value = values?.get(&**key.get_ref())?.clone();
                let from = From { source: source.clone(), line: lines.at(key.span().start) };
                Some((key.get_ref().to_string(), Given { value, from }))
            });
            let place = directory.span().start;
            let directory = PathBuf::from(directory.get_ref().to_string());
            sections.push((place, Section { directory, line: lines.at(place), keys: keys.collect() }));
        }
        sections.sort_by_key(|(place, _)| *place);
        Self { sections: sections.into_iter().map(|(_, section)| section).collect() }
    }

    /// What is said of a target. Paths are compared by their components, so that a slash at the end does not matter.
    pub fn find(&self, directory: &Path) -> Option<&Section> {
        self.sections.iter().find(|section| section.directory == directory)
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    fn at(&self, place: usize) -> usize {
        self.0.partition_point(|end| *end < place) + 1
    }
}

/// Brings layers together, of which later ones win, and what the host says of the targets that they name, which wins
/// over all of them. Targets stand in the order in which they are mentioned first.
pub fn merge<'l>(layers: impl IntoIterator<Item = &'l Layer>, host: &Layer) -> Vec<Section> {
    let mut merged: Vec<Section> = Vec::new();
    for section in layers.into_iter().flat_map(|layer| &layer.sections) {
        match merged.iter_mut().find(|known| known.directory == section.directory) {
            Some(known) => known.keys.extend(section.keys.clone()),
            None => merged.push(section.clone()),
        }
    }
    for section in &mut merged {
        let own = host.find(&section.directory).map(|own| own.keys.clone());
        section.keys.extend(own.unwrap_or_default());
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMMON: &str = "[targets.\"/b\"]\nchannel = \"repos/b\"\nref = \"v1\"\n\n[targets.\"/a\"]\nchannel = \"repos/a\"\nkeep = 3\n";
    const ROLE: &str = "[targets.\"/a\"]\nkeep = 5\n[[targets.\"/a\".run]]\ncommand = [\"x\"]\n";
    const HOST: &str =
        "target = \"/a\"\n[targets.\"/a/\"]\nref = \"main\"\n[targets.\"/c\"]\nchannel = \"repos/c\"\n";

    #[test]
    fn later_layers_win_key_by_key_and_the_host_over_all() {
        let layers = [Layer::read("profiles/common", COMMON), Layer::read("profiles/role", ROLE)];
        let merged = merge(&layers, &Layer::of_host(HOST));
        let shown: Vec<String> = merged
            .iter()
            .flat_map(|section| {
                section.keys.iter().map(|(key, given)| {
                    format!("{} {key} = {}  # {}", section.directory.display(), given.value, given.from)
                })
            })
            .collect();
        assert_eq!(
            shown,
            [
                "/b channel = \"repos/b\"  # profiles/common, profile.toml line 2",
                "/b ref = \"v1\"  # profiles/common, profile.toml line 3",
                "/a channel = \"repos/a\"  # profiles/common, profile.toml line 6",
                "/a keep = 5  # profiles/role, profile.toml line 2",
                "/a ref = \"main\"  # the configuration, line 3",
                "/a run = [{ command = [\"x\"] }]  # profiles/role, profile.toml line 3",
            ]
        );
        let config = merged[1].config().unwrap();
        assert_eq!(config.keep.map(|keep| keep.0), Some(5));
        assert_eq!(merged[1].table(|from| from.source != Source::Host).len(), 3);
    }

    const KEYS: [&str; 3] = ["ref", "channel", "kind"];

    /// Layers of a few targets and keys, whose values are all different.
    fn layers() -> impl Strategy<Value = Vec<Layer>> {
        let layer = proptest::collection::btree_set((0..3_usize, 0..3_usize), 0..7);
        proptest::collection::vec(layer, 0..6).prop_map(|layers| {
            let layer = |(number, said): (usize, std::collections::BTreeSet<(usize, usize)>)| {
                let mut sections: BTreeMap<usize, Section> = BTreeMap::new();
                for (target, key) in said {
                    let directory = PathBuf::from(format!("/{target}"));
                    let section = sections.entry(target).or_insert(Section {
                        directory,
                        line: 1,
                        keys: BTreeMap::new(),
                    });
                    let value = toml::Value::String(format!("{number} {target} {key}"));
                    let from = From { source: Source::Profile(number.to_string()), line: key };
                    section.keys.insert(KEYS[key].to_owned(), Given { value, from });
                }
                Layer { sections: sections.into_values().collect() }
            };
            layers.into_iter().enumerate().map(layer).collect()
        })
    }

    proptest! {
        #[test]
        fn each_value_is_the_last_that_was_given(layers in layers()) {
            let merged = merge(&layers, &Layer::default());
            for (directory, key) in (0..3).flat_map(|target| KEYS.map(|key| (PathBuf::from(format!("/{target}")), key))) {
                let last = layers.iter().rev().find_map(|layer| layer.find(&directory)?.keys.get(key));
                let found = merged.iter().find(|section| section.directory == directory);
                prop_assert_eq!(found.and_then(|section| section.keys.get(key)), last);
            }
        }

        #[test]
        fn what_was_merged_is_a_layer_like_any_other(layers in layers(), at in 0..6_usize) {
            let (first, rest) = layers.split_at(at.min(layers.len()));
            let first = Layer { sections: merge(first, &Layer::default()) };
            let again = merge(std::iter::once(&first).chain(rest), &Layer::default());
            prop_assert_eq!(again, merge(&layers, &Layer::default()));
        }
    }
}
