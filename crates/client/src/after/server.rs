//! The check whether the realm of a target can be reached.
//!
//! An update may cut a host off from where the next one would come from. So the question is the one that every sync begins
//! with, asked over a new connection, and an answer counts that verifies: a portal that answers for everybody does not.

use std::time::Duration;

use crate::failure::{Exit, Failure};
use crate::realm::resolve::Realm;
use crate::realm::trust_store::TrustStore;
use crate::reference;
use crate::settings;
use crate::sync::Surroundings;
use crate::sync::place::Label;
use crate::token::Tokens;

/// Asks what the ref is that a version came from. Returns why there is no answer that could be believed.
pub(super) fn answers(
    label: Option<&Label>,
    timeout: Duration,
    surroundings: &Surroundings<'_>,
) -> Result<(), String> {
    let Some(label) = label.filter(|label| !label.channel.is_empty()) else {
        return Err("the version is of no realm".to_owned());
    };
    let asked = ask(label, timeout, surroundings);
    asked.map_err(|failure| failure.in_one_line())
}

fn ask(label: &Label, timeout: Duration, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
    let Surroundings { runtime, interrupt, output, state_dir, network, config, .. } = *surroundings;
    let unknown =
        |what: &str| Failure::message(Exit::General, format!("the {what} of the version cannot be read"));
    let origin = label.origin.parse().map_err(|_| unknown("realm"))?;
    let channel = label.channel.parse().map_err(|_| unknown("channel"))?;
    let query = reference::parse(&label.r#ref).map_err(|_| unknown("ref"))?;
    let options = settings::realm_options(&origin, config, &Tokens::of_servers()?, network);
    let realm = Realm::open(&TrustStore::new(state_dir), &options)?;
    let asking = async {
        let resolving = realm.resolve(&channel, &query, None, output);
        tokio::time::timeout(timeout, resolving).await.map_or_else(
            |_| {
                let text = format!("{origin} has not answered within {} s", timeout.as_secs());
                Err(Failure::message(Exit::Network, text))
            },
            |resolved| resolved.map(drop),
        )
    };
    runtime.block_on(interrupt.guard(asking))
}
