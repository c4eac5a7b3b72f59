//! Lists of packages, flags and settings as Portage reads them, and what their lines have to be. Pure.

use crate::kinds::binpkgs::atom::{Atom, is_flag};

/// What is in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// An atom and flags, as `package.use`.
    Uses,
    /// An atom and words, as `package.accept_keywords` and `package.license`.
    Words,
    /// Atoms, as `package.mask` and `package.unmask`.
    Atoms,
    /// Atoms and sets that are installed.
    Installed,
    /// Packages of a profile: atoms, with a star those of the system.
    System,
    /// Packages with their versions that count as installed, as `package.provided`.
    Provided,
    /// Flags, as `use.mask`.
    Flags,
    /// Lines of `make.conf`.
    Settings,
    /// A script.
    Script,
}

impl List {
    /// The first line that is none of such a list, and why.
    pub(super) fn mistake(self, text: &str) -> Option<String> {
        if self == Self::Settings {
            return mistake_of_settings(text);
        }
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(first) = words.next() else { continue };
            let mistake = match self {
                Self::Script | Self::Settings => None,
                Self::Uses => atom(first).or_else(|| words.find_map(flag)),
                Self::Words => atom(first),
                Self::Atoms => atom(first.strip_prefix('-').unwrap_or(first)).or_else(|| surplus(&mut words)),
                Self::Installed if first.starts_with('@') => surplus(&mut words),
                Self::Installed => atom(first).or_else(|| surplus(&mut words)),
                Self::System => {
                    let added = first.strip_prefix('-').unwrap_or(first);
                    atom(added.strip_prefix('*').unwrap_or(added)).or_else(|| surplus(&mut words))
                }
                Self::Provided => {
                    let added = first.strip_prefix('-').unwrap_or(first);
                    provided(added).or_else(|| surplus(&mut words))
                }
                Self::Flags => flag(first).or_else(|| surplus(&mut words)),
            };
            if let Some(mistake) = mistake {
                return Some(format!("line {number}: {mistake}"));
            }
        }
        None
    }
}

/// Why a word is no atom, as Portage takes them in its configuration: names may be patterns.
fn atom(word: &str) -> Option<String> {
    if word.contains('*') && is_pattern(word) {
        return None;
    }
    word.parse::<Atom>().err().map(|error| error.to_string())
}

/// Why a word is no package with its version.
fn provided(word: &str) -> Option<String> {
    let is_one = format!("={word}").parse::<Atom>().is_ok() && !word.contains([':', '[', '*']);
    (!is_one).then(|| format!("{word:?} is no package with its version"))
}

/// Whether a word is `CATEGORY/NAME` with stars in it, and perhaps a slot or a repository.
fn is_pattern(word: &str) -> bool {
    let name = word.split(':').next().unwrap_or_default();
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+_-.*".contains(&byte))
    };
    let behind = &word[name.len()..];
    let is_behind = behind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/+_-.*".contains(&byte));
    is_behind && name.split_once('/').is_some_and(|(category, name)| is_part(category) && is_part(name))
}

/// Why a word is no USE flag, with or without a dash, and no name of a group of them.
fn flag(word: &str) -> Option<String> {
    let name = word.strip_prefix('-').unwrap_or(word);
    let is_one = name == "*" || is_flag(name) || name.strip_suffix(':').is_some_and(is_flag);
    (!is_one).then(|| format!("{word:?} is no USE flag"))
}

fn surplus<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<String> {
    words.next().map(|word| format!("{word:?} stands behind the first word"))
}

/// Settings may go over several lines, between quotes or before a backslash.
fn mistake_of_settings(text: &str) -> Option<String> {
    let mut open: Option<char> = None;
    let (mut goes_on, mut began) = (false, 0);
    for (number, line) in (1..).zip(text.lines()) {
        let rest = if open.is_some() || goes_on {
            line
        } else {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') || line.starts_with("source ") {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            let name = line.split('=').next().unwrap_or_default();
            let is_name = !name.is_empty()
                && !name.starts_with(|first: char| first.is_ascii_digit())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name || !line.contains('=') {
                return Some(format!("line {number}: it is not NAME=VALUE"));
            }
            began = number;
            &line[name.len() + 1..]
        };
        goes_on = rest.ends_with('\\');
        let mut is_escaped = false;
        for character in rest.chars() {
            match (open, character) {
                _ if is_escaped => is_escaped = false,
                (Some('"') | None, '\\') => is_escaped = true,
                (Some(quote), character) if quote == character => open = None,
                (None, '"' | '\'') => open = Some(character),
                (None, '#') => break,
                _ => {}
            }
        }
    }
    open.map(|quote| format!("line {began}: there is no {quote} that ends what begins there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_portage_takes_or_are_refused() {
        #[track_caller]
        fn check(list: List, text: &str, expected: Option<&str>) {
            assert_eq!(list.mistake(text).as_deref(), expected, "{text:?}");
        }
        check(List::Uses, "# all\n*/* -X VIDEO_CARDS: -* intel\nmedia-libs/* alsa\n", None);
        check(List::Uses, "app-misc/a b;c\n", Some("line 1: \"b;c\" is no USE flag"));
        check(List::Uses, "not an atom\n", Some("line 1: \"not\" is no atom"));
        check(List::Words, "=app-misc/a-1.0* ~amd64 **\n", None);
        check(List::Words, "app-misc/$(id) ~amd64\n", Some("line 1: \"app-misc/$(id)\" is no atom"));
        check(List::Atoms, ">=app-misc/a-2:0::gentoo\n-app-misc/b\n\n", None);
        check(
            List::Atoms,
            "app-misc/a app-misc/b\n",
            Some("line 1: \"app-misc/b\" stands behind the first word"),
        );
        check(List::Installed, "@world\napp-misc/a\n", None);
        check(List::Installed, "*/*;reboot\n", Some("line 1: \"*/*;reboot\" is no atom"));
        check(List::System, "*>=sys-apps/a-1\n-*sys-apps/b\nsys-apps/c\n", None);
        check(List::System, "*baselayout\n", Some("line 1: \"baselayout\" is no atom"));
        check(List::Provided, "sys-kernel/a-6.1-r1\n-sys-kernel/b-2\n", None);
        for word in ["sys-kernel/a", "sys-kernel/a-1:0", "sys-kernel/a-1*", "a-1"] {
            let expected = format!("line 1: {word:?} is no package with its version");
            check(List::Provided, word, Some(&expected));
        }
        check(List::Flags, "# none\n-a\nb_c\n", None);
        check(List::Flags, "a b\n", Some("line 1: \"b\" stands behind the first word"));
        check(List::Script, "anything at all $(", None);
        check(List::Settings, "USE=\"a\n b\"\nCFLAGS='-O2' # fast\nX=a\\\n b\nexport Y=\n", None);
        check(List::Settings, "USE=\"a\n b\n", Some("line 1: there is no \" that ends what begins there"));
        check(List::Settings, "1A=b\n", Some("line 1: it is not NAME=VALUE"));
        check(List::Settings, "rm -rf /\n", Some("line 1: it is not NAME=VALUE"));
    }
}
