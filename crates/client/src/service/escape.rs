//! Words as systemd and Nix read them.
//!
//! A path may hold spaces, `%`, `$`, quotes and backslashes, each of which means something in a unit. Control
//! characters are refused: not every setting has a way to write them, and no path that a person chose has any.

use std::path::Path;

use smart_sync_store::manifest::path::Shown;

use crate::failure::{Exit, Failure};

/// A path as text that a unit can hold.
pub(super) fn text_of(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control)).ok_or_else(|| {
        let shown = Shown(path.as_os_str().as_encoded_bytes());
        Failure::message(Exit::Arguments, format!("{shown} cannot be written into a unit"))
            .hint("name it by a path of UTF-8 without control characters, such as that of a link to it")
    })?;
    Ok(text.to_owned())
}

/// An argument of a command.
pub(super) fn argument(text: &str) -> String {
    path(text).replace('$', "$$")
}

/// A program, or a path of a setting: there, no variables are put in.
pub(super) fn path(text: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-:=,@+$%".contains(character);
    let is_word = !text.is_empty() && text.chars().all(is_plain);
    let text = text.replace('%', "%%");
    if is_word { text } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) }
}

/// A string of the Nix language.
pub(super) fn nix_string(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What systemd makes of a line: words, of which quotes and backslashes are taken away, then specifiers, then
    /// variables, but for the program's.
    fn read_by_systemd(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut characters = line.chars().peekable();
        while characters.next_if(|next| *next == ' ').is_some() || characters.peek().is_some() {
            let (mut word, mut is_quoted) = (String::new(), false);
            while let Some(next) = characters.next_if(|next| is_quoted || *next != ' ') {
                match next {
                    '"' => is_quoted = !is_quoted,
                    '\\' => {
                        let escaped = characters.next().unwrap();
                        assert!(matches!(escaped, '\\' | '"'), "\\{escaped} may mean something else");
                        word.push(escaped);
                    }
                    next => word.push(next),
                }
            }
            words.push(halved(&word, '%'));
        }
        words
            .iter()
            .enumerate()
            .map(|(at, word)| if at == 0 { word.clone() } else { halved(word, '$') })
            .collect()
    }

    /// Each pair of these means one; one alone would mean something else.
    fn halved(word: &str, sign: char) -> String {
        let pair = [sign; 2].iter().collect::<String>();
        let parts: Vec<&str> = word.split(&pair).collect();
        assert!(parts.iter().all(|part| !part.contains(sign)), "{word}");
        parts.join(&sign.to_string())
    }

    fn read_by_nix(text: &str) -> String {
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap();
        let mut characters = inner.chars();
        let mut read = String::new();
        while let Some(next) = characters.next() {
            assert!(next != '"' && next != '$');
            read.push(if next == '\\' { characters.next().unwrap() } else { next });
        }
        read
    }

    proptest! {
        #[test]
        fn words_come_back_as_they_were(words in prop::collection::vec("[ a-z/%$\"'\\\\;#{}*é-]{0,12}", 1..5)) {
            let program = format!("/{}", words[0]);
            let arguments: Vec<String> = words[1..].iter().map(|word| argument(word)).collect();
            let line = [vec![path(&program)], arguments].concat().join(" ");
            let expected: Vec<String> = std::iter::once(program).chain(words[1..].iter().cloned()).collect();
            prop_assert_eq!(read_by_systemd(&line), expected);
            prop_assert_eq!(read_by_nix(&nix_string(&line)), line);
        }
    }

    #[test]
    fn usual_words_stay_as_they_are_and_others_are_quoted() {
        assert_eq!(path("/usr/bin/smart-sync"), "/usr/bin/smart-sync");
        assert_eq!(argument("/srv/my site"), "\"/srv/my site\"");
        assert_eq!(argument("/srv/100%/$HOME"), "/srv/100%%/$$HOME");
        assert_eq!(argument(""), "\"\"");
        assert_eq!(nix_string("a${b}\"\\"), r#""a\${b}\"\\""#);
    }

    #[test]
    fn what_a_unit_cannot_hold_is_refused() {
        use std::os::unix::ffi::OsStrExt as _;
        for bytes in [&b"/a\nExecStart=/evil"[..], b"/a\x1b", b"/\xff"] {
            let failure = text_of(Path::new(std::ffi::OsStr::from_bytes(bytes))).unwrap_err();
            assert_eq!(failure.exit(), Exit::Arguments);
        }
    }
}
