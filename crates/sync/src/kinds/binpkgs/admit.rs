//! Which packages may be published: whether they are signed by keys that count, and of a form that is accepted.

use std::collections::BTreeMap;

use rayon::prelude::*;
use smart_sync_store::count::counted;
use smart_sync_store::manifest::TreePath;

use super::super::{KindError, Legacy, Refusal, SignaturePolicy, Unsigned};
use super::looked::Looked;
use super::package::Container;
use crate::openpgp::Signer;
use crate::time::UnixTime;

/// Says who has signed each package that is signed, by its path, where there is a key ring; refuses what is not accepted.
pub(super) fn admit(
    found: &BTreeMap<TreePath, Looked>,
    policy: &SignaturePolicy<'_>,
    now: UnixTime,
) -> Result<BTreeMap<TreePath, Signer>, KindError> {
    let judged: Vec<Result<Option<Signer>, Refusal>> =
        found.par_iter().map(|(path, looked)| judge(path, looked, policy, now)).collect();
    let (mut signers, mut refused) = (BTreeMap::new(), Vec::new());
    for (path, judged) in found.keys().zip(judged) {
        match judged {
            Ok(signer) => signers.extend(signer.map(|signer| (path.clone(), signer))),
            Err(refusal) => refused.push(refusal),
        }
    }
    if refused.is_empty() { Ok(signers) } else { Err(KindError::Refused(refused)) }
}

fn judge(
    path: &TreePath,
    looked: &Looked,
    policy: &SignaturePolicy<'_>,
    now: UnixTime,
) -> Result<Option<Signer>, Refusal> {
    if looked.container == Container::Xpak && policy.legacy == Legacy::Refused {
        let reason = "it is of the older form, which has neither digests nor signatures";
        let hint = "--convert publishes such packages in the newer form, and --allow-xpak as they are";
        return Err(Refusal { hint: Some(hint), ..Refusal::new(path, reason) });
    }
    match (policy.key_ring, &looked.signatures) {
        (None, _) => Ok(None),
        (Some(ring), Some(parts)) => match parts.judge(ring, now) {
            Ok(signer) => Ok(Some(signer)),
            Err(error) => Err(Refusal { hint: Some(error.hint()), ..Refusal::of(path, &error) }),
        },
        (Some(_), None) if policy.unsigned == Unsigned::Accepted => Ok(None),
        (Some(_), None) => {
            let hint =
                "sign it with --sign-with KEYFILE, or publish it without a signature with --allow-unsigned";
            Err(Refusal { hint: Some(hint), ..Refusal::new(path, "it is not signed") })
        }
    }
}

/// A line for each key that has signed something.
pub(super) fn said_of<'s>(signers: impl IntoIterator<Item = &'s Signer>) -> Vec<String> {
    let mut counts: BTreeMap<(&Option<String>, String), u64> = BTreeMap::new();
    for signer in signers {
        *counts.entry((&signer.user, signer.primary.to_string())).or_default() += 1;
    }
    let line = |((user, key), count): ((&Option<String>, String), u64)| {
        let count = counted(count, "package is", "packages are");
        match user {
            Some(user) => format!("{count} signed by {user}, {key}"),
            None => format!("{count} signed by {key}"),
        }
    };
    counts.into_iter().map(line).collect()
}
