//! Whether a flake has what it should: asked of Nix, or where that is not there or would take too long, of its text.

use std::path::Path;

use serde_json::Value;

use super::item::Item;
use super::look::{Depth, Ground, Verdict, read_bounded, run, wrong};
use crate::programs;

const NIX: &str = "nix";
/// They are switched on for these commands, whatever the configuration of Nix is: that is another check.
const FEATURES: [&str; 3] = [NIX, "--extra-experimental-features", "nix-command flakes"];

/// Looks at the flake in a directory.
pub(super) fn look(directory: &Path, item: &Item, ground: Ground<'_>) -> Verdict {
    let text = match read_bounded(&directory.join("flake.nix")) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(reason) => return wrong(format!("flake.nix: {reason}")),
    };
    if ground.depth == Depth::Quick || programs::find(NIX).is_none() {
        return by_text(&text, item);
    }
    by_nix(item, Ground { base: directory, ..ground }).unwrap_or_else(wrong)
}

/// Nix is asked without writing a lock: looking changes nothing. It runs in the directory, because in its own way to name
/// one, `?` and `#` mean something.
fn by_nix(item: &Item, ground: Ground<'_>) -> Result<Verdict, String> {
    let ask = |words: &[&str]| -> Result<Value, String> {
        let words: Vec<String> = FEATURES.iter().chain(words).map(|word| (*word).to_owned()).collect();
        let printed = run(&words, item, ground)?;
        // What it warns of comes first, in the same stream.
        let answer = printed.lines().rev().find(|line| line.starts_with(['{', '[']));
        let answer = answer.and_then(|line| serde_json::from_str(line).ok());
        answer.ok_or_else(|| "nix says nothing that can be read".to_owned())
    };
    if let Some(input) = &item.input {
        let metadata = ask(&["flake", "metadata", "--json", "--no-write-lock-file", "."])?;
        if !has_input(&metadata, input) {
            return Ok(wrong(format!("it has no input `{input}`")));
        }
    }
    let of_configurations = [".#nixosConfigurations", "--apply", "builtins.attrNames"];
    let names = ask(&[&["eval", "--json", "--no-write-lock-file"], &of_configurations[..]].concat())?;
    let names: Vec<&str> = names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    Ok(match &item.host {
        _ if names.is_empty() => wrong("it has no nixosConfigurations"),
        Some(host) if !names.contains(&host.as_str()) => {
            wrong(format!("it has no configuration for `{host}`, only for {}", names.join(", ")))
        }
        _ => Verdict::Well(format!("it has configurations for {}", names.join(", "))),
    })
}

/// Whether the lock that Nix shows has an input.
fn has_input(metadata: &Value, input: &str) -> bool {
    let locks = &metadata["locks"];
    let root = locks["root"].as_str().unwrap_or("root");
    !locks["nodes"][root]["inputs"][input].is_null()
}

/// What the text lets one hope. Pure.
fn by_text(text: &str, item: &Item) -> Verdict {
    let text = without_comments(text);
    let is_word = |character: char| character.is_alphanumeric() || "_-'".contains(character);
    let has = |name: &str| text.split(|character| !is_word(character)).any(|word| word == name);
    if !has("nixosConfigurations") {
        return wrong("it has no nixosConfigurations");
    }
    let missing = [&item.input, &item.host].into_iter().flatten().find(|name| !has(name));
    missing.map_or_else(
        || Verdict::Well("its text names what it should have".to_owned()),
        |name| wrong(format!("it does not name `{name}`")),
    )
}

/// Nix without `# …` and `/* … */`; what looks like one within a string goes too, which does not matter here.
fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['#', '/']) {
        let (before, comment) = rest.split_at(at);
        kept.push_str(before);
        rest = if comment.starts_with('#') {
            comment.find('\n').map_or("", |end| &comment[end..])
        } else if let Some(inner) = comment.strip_prefix("/*") {
            inner.find("*/").map_or("", |end| &inner[end + 2..])
        } else {
            kept.push('/');
            &comment[1..]
        };
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_counts_but_for_comments() {
        let item: Item = toml::from_str("flake = \"/a\"\ninput = \"hypervisor\"").unwrap();
        let judged = |text: &str| matches!(by_text(text, &item), Verdict::Well(_));
        let good = "{ inputs.hypervisor.url = \"path:/etc/hypervisor/src\"; outputs = { ... }: { nixosConfigurations.a = 1; }; }";
        assert!(judged(good));
        assert!(!judged(&good.replace("nixosConfigurations", "packages")));
        assert!(!judged(
            &good
                .replace("inputs.hypervisor.url", "inputs.other.url")
                .replace("path:", "")
                .replace("/etc/hypervisor/src", "/x")
        ));
        assert!(!judged("{ } # nixosConfigurations hypervisor"));
        assert!(!judged("/* nixosConfigurations */ { hypervisor = 1; } /* open"));
    }

    #[test]
    fn nix_says_which_inputs_there_are() {
        let metadata = serde_json::json!({ "locks": { "root": "root", "nodes": {
            "root": { "inputs": { "hypervisor": "hypervisor_2" } },
            "hypervisor_2": { "inputs": { "nixpkgs": "nixpkgs" } },
        } } });
        assert!(has_input(&metadata, "hypervisor"));
        assert!(!has_input(&metadata, "nixpkgs"));
        assert!(!has_input(&serde_json::json!([]), "hypervisor"));
    }
}
