//! `mirror add` and `mirror remove`: what stands in `server.toml`, whose other lines and comments stay as they are.

use anyhow::{Context as _, bail};

use super::super::{Failure, print};
use crate::args::MirrorAddArgs;
use crate::config::{Config, MirrorConfig};
use crate::data_dir::DataDir;
use crate::durable;
use crate::mirrors;

/// Begins a mirror.
const HEADER: &str = "[[mirror]]";
/// What is said of a change.
const RESTART: &str = "the server reads it when it starts again";

pub(super) fn add(args: MirrorAddArgs) -> anyhow::Result<()> {
    let data = DataDir::open(&args.data.path)?;
    let mirror = MirrorConfig {
        name: args.name,
        channel: args.channel,
        kind: args.kind,
        sources: args.sources,
        source_lists: args.source_lists,
        names_from: args.names_from,
        key: args.key,
        prefetch: args.prefetch,
        architectures: args.architectures,
        variants: args.variants,
        newest: args.newest,
        current: args.current,
        keyring: args.keyring,
        allow_unsigned: args.allow_unsigned,
        digests: args.digests,
        digests_file: args.digests_file,
        every: args.every,
        max_gib: args.max_gib,
    };
    write(&data, &mirror)
}

/// Writes one more mirror at the end of `server.toml`.
pub(in crate::commands) fn write(data: &DataDir, mirror: &MirrorConfig) -> anyhow::Result<()> {
    let old = read(data)?;
    let new = with(&old, mirror)?;
    let config: Config = toml::from_str(&new).context("what server.toml would be")?;
    mirrors::check(&config).map_err(|error| Failure::Arguments(format!("{error:#}")))?;
    durable::write(&data.config(), new.as_bytes())?;
    print(format_args!("{} is in server.toml; {RESTART}", mirror.name))
}

pub(super) fn remove(data: &DataDir, name: &str) -> anyhow::Result<()> {
    let Some(new) = without(&read(data)?, name) else {
        return Err(Failure::Arguments(format!("there is no [[mirror]] {name:?} in server.toml")).into());
    };
    let config: Config = toml::from_str(&new).context("what server.toml would be")?;
    if config.mirrors.iter().any(|mirror| mirror.name == name) {
        bail!("{name:?} is in server.toml in a way that only a person can undo");
    }
    durable::write(&data.config(), new.as_bytes())?;
    mirrors::forget(data, name)?;
    print(format_args!(
        "{name} is not in server.toml any more; {RESTART}. What came from upstream for it is kept"
    ))
}

fn read(data: &DataDir) -> anyhow::Result<String> {
    let path = data.config();
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// A configuration with one more mirror at its end.
fn with(text: &str, mirror: &MirrorConfig) -> anyhow::Result<String> {
    let table = toml::to_string(mirror).context("writing the mirror")?;
    Ok(format!("{}\n\n{HEADER}\n{table}", text.trim_end()))
}

/// A configuration without the mirror of this name; None if it has none.
fn without(text: &str, name: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let begins = |line: &str| line.trim_start().starts_with('[');
    let starts = lines.iter().enumerate().filter(|(_, line)| line.trim() == HEADER).map(|(at, _)| at);
    let mut blocks = starts.map(|start| {
        let length = lines[start + 1..].iter().position(|line| begins(line));
        let mut end = length.map_or(lines.len(), |length| start + 1 + length);
        // What is said above the next table is about that.
        while length.is_some() && end > start + 1 && lines[end - 1].trim_start().starts_with('#') {
            end -= 1;
        }
        start..end
    });
    let block = blocks.find(|block| {
        let table: Result<MirrorConfig, _> = toml::from_str(&lines[block.start + 1..block.end].join("\n"));
        table.is_ok_and(|mirror| mirror.name == name)
    })?;
    let left: Vec<&str> = lines[..block.start].iter().chain(&lines[block.end..]).copied().collect();
    Some(left.join("\n").trim_end().to_owned() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(name: &str) -> MirrorConfig {
        MirrorConfig {
            name: name.to_owned(),
            channel: format!("distfiles/{name}"),
            kind: "distfiles".to_owned(),
            sources: vec!["http://one.example.org/a".to_owned()],
            names_from: Some("repos/gentoo".to_owned()),
            ..MirrorConfig::default()
        }
    }

    #[test]
    fn what_is_added_can_be_removed_and_the_rest_stays_as_it_is() {
        let text = "# ours\norigin = \"lab.example.org\" # for ever\n\n[limits]\nconnections = 7\n";
        let one = with(text, &mirror("one")).unwrap();
        let both = with(&one, &mirror("two")).unwrap();
        let config: Config = toml::from_str(&both).unwrap();
        assert_eq!(config.mirrors.iter().map(|mirror| &*mirror.name).collect::<Vec<_>>(), ["one", "two"]);
        assert!(both.starts_with(text));
        assert_eq!(without(&both, "two").unwrap().trim_end(), one.trim_end());
        let two = without(&both, "one").unwrap();
        let config: Config = toml::from_str(&two).unwrap();
        assert_eq!(
            (config.mirrors.len(), config.mirrors[0].name.as_str(), config.limits.connections),
            (1, "two", 7)
        );
        assert_eq!(without(&without(&both, "one").unwrap(), "two").as_deref(), Some(text));
        assert_eq!(without(&both, "three"), None);
        assert_eq!(without(text, "one"), None);
    }

    #[test]
    fn comments_above_the_next_table_stay() {
        let one = with("origin = \"a\"\n", &mirror("one")).unwrap();
        let text = format!("{one}# how upstreams are asked\n[upstream]\nconnections = 3\n");
        let left = without(&text, "one").unwrap();
        assert_eq!(left, "origin = \"a\"\n\n# how upstreams are asked\n[upstream]\nconnections = 3\n");
    }
}
