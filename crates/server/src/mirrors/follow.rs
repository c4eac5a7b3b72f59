//! Mirrors that follow an upstream: it is looked at now and then, and what is new there is published.
//!
//! A [kind](smart_sync_sync::kinds::follow) says what has to be read upstream and which files there are, or a file with
//! digests does ([`whole`]). One upstream is asked until that is known ([`look`]); what is not here yet is brought into a
//! directory ([`bring`]), and published from there as anything that somebody publishes. Where its files are versions, each
//! of these comes once ([`versions`]). What an upstream has that lost something, or went back, waits for a person ([`hold`]).

mod asking;
mod bring;
mod compare;
mod digests;
mod documents;
mod fetch;
mod hold;
mod listing;
mod look;
mod must;
mod round;
pub(super) mod schedule;
pub(super) mod state;
mod tend;
mod versions;
mod whole;

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use smart_sync_sync::kinds::follow::{Arriving, Follow, Following};
use smart_sync_sync::kinds::{self, ArtifactKind};
use smart_sync_sync::name::{Channel, Kind};

use super::upstreams::{self, Source, Turns};
use crate::config::{Current, MirrorConfig};
pub(super) use round::Round;
pub(crate) use state::State;
pub(crate) use tend::tend;
use versions::OfVersions;

/// The most that one look may bring, where that is not configured.
const GIB_MAX: u64 = 256;

/// A channel that follows an upstream.
pub(crate) struct Followed {
    /// What the operator calls it.
    pub(super) name: String,
    /// Where it is served.
    pub(super) channel: Channel,
    /// What kind of tree that is.
    pub(super) kind: Kind,
    pub(super) sources: Vec<Source>,
    way: Way,
    /// The versions that its files are, where the kind publishes each of them once.
    versions: Option<OfVersions>,
    architectures: Vec<String>,
    variants: Vec<String>,
    newest: Option<usize>,
    keyring: Vec<PathBuf>,
    allow_unsigned: bool,
    /// The most bytes that one look may bring.
    bytes_max: u64,
}

/// How it is known what there is.
enum Way {
    /// The kind finds out.
    Kind(&'static dyn Follow),
    /// A file upstream has the digests of all others.
    Digests(String),
    /// A file of this machine has.
    DigestsFile(PathBuf),
}

impl Followed {
    /// Reads what is configured.
    pub(super) fn new(config: &MirrorConfig, per_host: usize, turns: &mut Turns) -> anyhow::Result<Self> {
        let kind: Kind = config.kind.parse().with_context(|| format!("kind = {:?}", config.kind))?;
        let known = kinds::find(&kind);
        ensure!(config.names_from.is_none(), "names-from means nothing for the kind {kind}");
        ensure!(!config.prefetch, "prefetch means nothing for the kind {kind}: all of it comes");
        if let Some(newest) = config.newest {
            ensure!(newest > 0, "newest = 0: nothing would come");
        }
        let following = known.map_or(Following::Whole, ArtifactKind::following);
        let way = way(config, &kind, known, following)?;
        let versions = match (following, config.current) {
            (Following::Versions(versions), current) => {
                let arriving = current.map_or(Arriving::Offered, |Current::Newest| Arriving::Newest);
                Some(OfVersions { versions, arriving })
            }
            (_, None) => None,
            (_, Some(_)) => {
                bail!("current means nothing for the kind {kind}: it has no versions to choose from")
            }
        };
        Ok(Self {
            name: config.name.clone(),
            channel: config.channel.parse().with_context(|| format!("channel = {:?}", config.channel))?,
            sources: upstreams::of(config, per_host, turns)?,
            way,
            versions,
            kind,
            architectures: config.architectures.clone(),
            variants: config.variants.clone(),
            newest: config.newest,
            keyring: config.keyring.clone(),
            allow_unsigned: config.allow_unsigned,
            bytes_max: config.max_gib.unwrap_or(GIB_MAX).saturating_mul(1 << 30),
        })
    }
}

/// How it becomes known what there is, and that somebody is believed who says so.
fn way(
    config: &MirrorConfig,
    kind: &Kind,
    known: Option<&dyn ArtifactKind>,
    following: Following,
) -> anyhow::Result<Way> {
    let is_trusted = !config.keyring.is_empty() || config.allow_unsigned;
    let untrusted = "hint: name the keys that sign it with `keyring`, or say `allow-unsigned = true`";
    match following {
        Following::No => bail!("kind = \"{kind}\": an upstream of this kind cannot be followed"),
        Following::Known(follow) => {
            let has_digests = config.digests.is_some() || config.digests_file.is_some();
            ensure!(
                !has_digests,
                "digests mean nothing for the kind {kind}, which knows by itself what there is"
            );
            let judges = known.is_some_and(ArtifactKind::judges_signatures);
            ensure!(
                is_trusted || !judges,
                "what comes from upstream would not be judged by anybody's keys\n{untrusted}"
            );
            Ok(Way::Kind(follow))
        }
        Following::Whole | Following::Versions(_) => {
            let is_parted =
                !config.architectures.is_empty() || !config.variants.is_empty() || config.newest.is_some();
            ensure!(
                !is_parted || matches!(following, Following::Versions(_)),
                "architectures, variants and newest mean nothing for the kind {kind}: all of it comes"
            );
            match (&config.digests, &config.digests_file) {
                (Some(_), Some(_)) => bail!("digests and digests-file contradict each other"),
                (Some(path), None) => {
                    ensure!(is_trusted, "whoever is upstream could say what they like\n{untrusted}");
                    Ok(Way::Digests(path.clone()))
                }
                (None, Some(path)) => Ok(Way::DigestsFile(path.clone())),
                (None, None) => bail!(
                    "kind = \"{kind}\": nothing says what the files have to be\n\
                     hint: name a file upstream with `digests`, such as \"SHA512SUMS\", or one of this machine with `digests-file`"
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: &str, change: impl FnOnce(&mut MirrorConfig)) -> MirrorConfig {
        let mut config = MirrorConfig {
            name: "upstream".to_owned(),
            channel: "files".to_owned(),
            kind: kind.to_owned(),
            sources: vec!["https://one.example.org/".to_owned()],
            ..MirrorConfig::default()
        };
        change(&mut config);
        config
    }

    /// A kind, a change to what is configured, and what is said of it.
    type Case = (&'static str, fn(&mut MirrorConfig), &'static str);

    #[test]
    fn somebody_has_to_say_what_files_are() {
        let followed = |kind: &str, change: fn(&mut MirrorConfig)| {
            Followed::new(&config(kind, change), 4, &mut Turns::new()).map_err(|error| format!("{error:#}"))
        };
        assert!(followed("files", |it| it.digests_file = Some("/srv/SUMS".into())).is_ok());
        let signed = |it: &mut MirrorConfig| {
            (it.digests, it.keyring) = (Some("SUMS".to_owned()), vec!["/etc/keys".into()]);
        };
        assert!(followed("files", signed).is_ok());
        let of_versions = |it: &mut MirrorConfig| {
            it.digests_file = Some("/srv/SUMS".into());
            (it.variants, it.newest) = (vec!["gentoo".to_owned()], Some(3));
            it.current = Some(Current::Newest);
        };
        assert!(followed("kernels", of_versions).is_ok());
        let cases: [Case; 10] = [
            ("files", |_| {}, "nothing says what the files have to be"),
            ("files", |it| it.digests = Some("SUMS".to_owned()), "could say what they like"),
            (
                "files",
                |it| (it.digests, it.digests_file) = (Some("SUMS".to_owned()), Some("/srv/SUMS".into())),
                "contradict each other",
            ),
            ("files", |it| it.names_from = Some("repos/gentoo".to_owned()), "names-from means nothing"),
            ("files", |it| it.variants = vec!["openrc".to_owned()], "mean nothing for the kind files"),
            ("files", |it| it.newest = Some(0), "nothing would come"),
            ("files", |it| it.prefetch = true, "prefetch means nothing"),
            ("kernels", |it| it.newest = Some(2), "nothing says what the files have to be"),
            ("kernels", |it| it.digests = Some("SUMS".to_owned()), "could say what they like"),
            (
                "files",
                |it| (it.digests_file, it.current) = (Some("/srv/SUMS".into()), Some(Current::Newest)),
                "current means nothing for the kind files",
            ),
        ];
        for (kind, change, said) in cases {
            let error = followed(kind, change).err().unwrap();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
