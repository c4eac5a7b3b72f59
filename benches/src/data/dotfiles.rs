//! A user's settings: forty small files, of which three change.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;

use super::kept;
use super::pair::{Pair, set_times};
use super::random::Random;
use crate::bench::Bench;

const FILES: u32 = 40;
const CHANGED: u32 = 3;

/// Forty files of some hundred bytes to some kilobytes, like what lies in a home directory.
pub(crate) fn dotfiles(bench: &Bench) -> Result<Pair> {
    let directory = kept(bench, "dotfiles", |path| {
        let (old, new) = (path.join("old"), path.join("new"));
        for number in 0..FILES {
            let text = settings(number);
            let changed = number % (FILES / CHANGED) == 1 && number / (FILES / CHANGED) < CHANGED;
            let changed_text = if changed { text.replacen("= ", "= another-", 2) } else { text.clone() };
            for (tree, text) in [(&old, &text), (&new, &changed_text)] {
                let file = tree.join(format!(".config/program-{:02}/settings-{number:02}.conf", number / 2));
                fs::create_dir_all(file.parent().unwrap_or(tree))?;
                fs::write(file, text)?;
            }
        }
        set_times(&old, &new)
    })?;
    let name = format!("{FILES} files, {CHANGED} changed");
    Ok(Pair::trees(name, directory.join("old"), directory.join("new")).in_git())
}

/// Lines of `key = value`.
fn settings(number: u32) -> String {
    let mut random = Random::new(u64::from(number) + 77);
    let lines = 10 + random.below(120);
    let mut text = String::new();
    for line in 0..lines {
        let (name, value) = (random.below(1 << 16), random.below(1 << 32));
        writeln!(text, "option-{line:03}-{name:04x} = {value:08x}").expect("writing to a string succeeds");
    }
    text
}
