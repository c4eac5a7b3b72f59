//! The signatures of a publication: its own, and those that other programs check.

use smart_sync_sync::key::{KeyType, SidecarDigests, Signer, minisig, sshsig};
use smart_sync_sync::name::Channel;
use smart_sync_sync::publish;
use smart_sync_sync::record::{Publication, Root};
use smart_sync_sync::wire::submission::Sidecar;

use crate::args::publish::PublishArgs;
use crate::failure::{Exit, Failure};
use crate::signing;

/// The keys of a run.
pub(super) struct Keys {
    publish: Vec<Box<dyn Signer>>,
    minisign: Option<Box<dyn Signer>>,
    ssh: Option<Box<dyn Signer>>,
}

impl Keys {
    pub(super) fn load(args: &PublishArgs) -> Result<Self, Failure> {
        let minisign = args.minisign_key.as_deref().map(signing::load_file).transpose()?;
        Ok(Self {
            publish: args.keys.iter().map(signing::load).collect::<Result<_, _>>()?,
            minisign: minisign.map(|key| Box::new(key) as Box<dyn Signer>),
            ssh: args.ssh_key.as_ref().map(signing::load).transpose()?,
        })
    }

    pub(super) const fn has_sidecars(&self) -> bool {
        self.minisign.is_some() || self.ssh.is_some()
    }

    /// Refuses keys that the root document does not let publish to this channel.
    pub(super) fn check(&self, root: &Root, channel: &Channel) -> Result<(), Failure> {
        let refuse = |text: String| Failure::message(Exit::Refused, text);
        let role = root.publishers(channel).ok_or_else(|| {
            let patterns: Vec<_> = root.publish.iter().map(|publish| publish.pattern.to_string()).collect();
            refuse(format!("version {} of the root document lets no key publish to {channel}", root.version))
                .hint(format!("channels that can be published to: {}", patterns.join(", ")))
        })?;
        let names = || {
            let counting = role.keys.iter().filter(|key| root.revocation(key.public_key()).is_none());
            counting.map(|key| key.name().to_string()).collect::<Vec<_>>().join(", ")
        };
        for key in &self.publish {
            let own = key.verifier_key(KeyType::Ed25519);
            if root.revocation(own.public_key()).is_some() {
                return Err(refuse(format!("the key {} is revoked", own.name()))
                    .hint(format!("keys that may publish to {channel}: {}", names())));
            }
            if !role.keys.contains(&own) {
                let same = role.keys.iter().find(|other| other.public_key() == own.public_key());
                return Err(match same {
                    Some(other) => {
                        refuse(format!("the root document knows the key {} as {}", own.name(), other.name()))
                            .hint(format!(
                                "type `ssh-keygen -c -C {} -f FILE` to give it that name",
                                other.name()
                            ))
                    }
                    None => refuse(format!("the key {} may not publish to {channel}", own.name()))
                        .hint(format!("keys that may: {}", names())),
                });
            }
        }
        if self.publish.len() < role.threshold {
            let text = format!("{channel} needs the signatures of {} of its keys", role.threshold);
            return Err(refuse(text).hint(format!("repeat --key; keys that count: {}", names())));
        }
        Ok(())
    }

    pub(super) fn sign(&self, publication: &Publication) -> Result<Vec<u8>, Failure> {
        let signers: Vec<&dyn Signer> = self.publish.iter().map(AsRef::as_ref).collect();
        publish::sign(publication, &signers).map_err(|error| Failure::new(Exit::General, error))
    }

    /// Signs the note, and the tree's checksums where there are any.
    pub(super) fn sidecars(
        &self,
        publication: &Publication,
        note: &[u8],
        sums: Option<&SidecarDigests>,
    ) -> Result<Vec<Sidecar>, Failure> {
        let note = SidecarDigests::of(note);
        let mut sidecars = Vec::new();
        for (name, digests) in [("publication", Some(&note)), ("SUMS", sums)] {
            let Some(digests) = digests else { continue };
            let mut put = |ending: &str, text: String| {
                sidecars.push(Sidecar { name: format!("{name}.{ending}"), bytes: text.into_bytes() });
            };
            if let Some(key) = &self.minisign {
                let Publication { origin, channel, reference, seq, time, .. } = publication;
                let comment = format!("{name} of {origin} {channel} {reference} number {seq}, {time}");
                put("minisig", minisig::sign(key.as_ref(), digests, &comment)?);
            }
            if let Some(key) = &self.ssh {
                put("sshsig", sshsig::sign(key.as_ref(), digests)?);
            }
        }
        Ok(sidecars)
    }
}
