//! `profile show`: what a profile comes to on this host, and where each value stands.

use serde::Serialize;

use super::list;
use super::merge::{Section, merge};
use super::permit::Rules;
use super::resolve::{open_realm, resolve};
use super::settings::ProfileSettings;
use super::store;
use crate::after::subject::Subject;
use crate::commands::Listing;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output};
use crate::sync::Surroundings;

/// A value of a profile, for programs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "profile-value")]
struct ValueEvent<'a> {
    target: &'a str,
    key: &'a str,
    value: &'a toml::Value,
    from: String,
    used: bool,
}

/// Prints a profile, merged.
pub fn show(settings: &ProfileSettings, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let Surroundings { config, state_dir, output, .. } = *surroundings;
    let realm = open_realm(settings, surroundings)?;
    let (view, merged) =
        resolve(&realm, settings, surroundings, |layers| Ok((merge(layers, &config.lines), Vec::new())))?;
    let rules = Rules::new(&settings.channel.channel, &[], config, state_dir);
    let publication = view.resolved.verified.publication.record();
    let mut lines = Listing::default();
    lines.line(&format!("# {} {} number {}", publication.channel, view.resolved.reference, publication.seq));
    let store = store::directory_of(&settings.channel.channel, state_dir);
    let health = list::health(&settings.channel.channel, state_dir)?;
    if let Some(sentence) = health.sentence(&Subject::set(settings.channel.channel.as_str(), &store)) {
        lines.line(&format!("# what was pulled here: {sentence}"));
    }
    for section in &merged {
        show_section(section, &rules, &mut lines, output);
    }
    if output.format() == Format::Text {
        lines.print(output)?;
    }
    Ok(Exit::Success)
}

fn show_section(section: &Section, rules: &Rules<'_>, lines: &mut Listing, output: &Output) {
    let target = section.directory.to_string_lossy();
    lines.line("");
    lines.line(&format!("[targets.{}]", toml::Value::String(target.clone().into_owned())));
    for (key, given) in &section.keys {
        let is_used = rules.uses(key, given);
        let note = if is_used { "" } else { "; not used, the configuration does not allow it" };
        lines.line(&format!("{key} = {}   # {}{note}", given.value, given.from));
        output.event(&ValueEvent {
            target: &target,
            key,
            value: &given.value,
            from: given.from.to_string(),
            used: is_used,
        });
    }
}
