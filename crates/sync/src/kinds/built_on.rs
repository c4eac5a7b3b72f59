//! The machines that the files of a tree were built on, as those who published them have said.
//!
//! A file of the tree says so, a line `host=NAME,kernel=VERSION PATH` for each that it was said of, by their paths: it is
//! signed like everything that is published, and clients that do not know the file do not miss it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use smart_sync_store::manifest::{Shown, TreePath};

/// Where it is written, in a tree.
pub const FILE: &str = ".smart-sync/built-on";
/// The largest such file that is read.
pub const BYTES_MAX: u64 = 256 << 20;
/// The longest name of a host or version of a kernel.
const VALUE_BYTES_MAX: usize = 128;

/// A machine that something was built on. At least one of the two is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltOn {
    host: Option<String>,
    kernel: Option<String>,
}

/// Machines, by the paths of what was built on them.
pub type Builders = BTreeMap<TreePath, BuiltOn>;

/// A text that says nothing of a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not host=NAME,kernel=VERSION or one of the two: {reason}", Shown(.text.as_bytes()))]
pub struct BuiltOnError {
    text: String,
    reason: &'static str,
}

impl BuiltOn {
    /// A machine of this name that runs this kernel.
    pub fn new(host: &str, kernel: &str) -> Result<Self, BuiltOnError> {
        format!("host={host},kernel={kernel}").parse()
    }

    /// The name of the machine.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The version of the kernel that it ran.
    pub fn kernel(&self) -> Option<&str> {
        self.kernel.as_deref()
    }
}

impl FromStr for BuiltOn {
    type Err = BuiltOnError;

    fn from_str(text: &str) -> Result<Self, BuiltOnError> {
        let refuse = |reason| BuiltOnError { text: text.chars().take(2 * VALUE_BYTES_MAX).collect(), reason };
        let (mut host, mut kernel) = (None, None);
        for part in text.splitn(3, ',') {
            let (key, value) = part.split_once('=').ok_or_else(|| refuse("there is no ="))?;
            let is_value = (1..=VALUE_BYTES_MAX).contains(&value.len())
                && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',' && byte != b'=');
            if !is_value {
                return Err(refuse("a value is 1 to 128 letters, digits and signs without spaces"));
            }
            let place = match key {
                "host" => &mut host,
                "kernel" => &mut kernel,
                _ => return Err(refuse("only host and kernel are known")),
            };
            if place.replace(value.to_owned()).is_some() {
                return Err(refuse("it is said twice"));
            }
        }
        Ok(Self { host, kernel })
    }
}

impl fmt::Display for BuiltOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("host", &self.host), ("kernel", &self.kernel)];
        let known = parts.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?)));
        for (at, (key, value)) in known.enumerate() {
            write!(f, "{}{key}={value}", if at > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// Reads the file.
pub fn parse(bytes: &[u8]) -> Result<Builders, String> {
    let mut builders = Builders::new();
    if bytes.is_empty() {
        return Ok(builders);
    }
    let lines = bytes.strip_suffix(b"\n").ok_or_else(|| format!("{FILE}: its last line has no end"))?;
    for line in lines.split(|byte| *byte == b'\n') {
        let (path, built_on) = parse_line(line).ok_or_else(|| wrong(line))?;
        if builders.insert(path, built_on).is_some() {
            return Err(wrong(line));
        }
    }
    Ok(builders)
}

fn parse_line(line: &[u8]) -> Option<(TreePath, BuiltOn)> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let text = str::from_utf8(&line[..space]).ok()?;
    let built_on: BuiltOn = text.parse().ok()?;
    // One machine is written in one way.
    (built_on.to_string() == text).then_some(())?;
    Some((TreePath::new(&line[space + 1..]).ok()?, built_on))
}

fn wrong(line: &[u8]) -> String {
    format!("{FILE}: {} is no line of it", Shown(&line[..line.len().min(200)]))
}

/// Writes the file. A path with a line break in it cannot be written, and is not one that an index could name.
pub fn render(builders: &Builders) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, built_on) in builders.iter().filter(|(path, _)| !path.as_bytes().contains(&b'\n')) {
        bytes.extend_from_slice(format!("{built_on} ").as_bytes());
        bytes.extend_from_slice(path.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_said_of_a_machine_is_read() {
        for text in ["host=a", "kernel=6.18.3-gentoo", "host=builder1,kernel=6.18.3-gentoo"] {
            assert_eq!(text.parse::<BuiltOn>().unwrap().to_string(), text);
        }
        let other: BuiltOn = "kernel=6,host=a".parse().unwrap();
        assert_eq!(
            (other.to_string().as_str(), other.host(), other.kernel()),
            ("host=a,kernel=6", Some("a"), Some("6"))
        );
    }

    #[test]
    fn what_says_nothing_of_a_machine_is_refused() {
        let long = format!("host={}", "a".repeat(129));
        for text in [
            "",
            "a",
            "host",
            "host=",
            "host=a b",
            "host=a\n",
            "host=a\u{1b}[1m",
            "host=\u{e4}",
            "host=a=b",
            "host=a,",
            "host=a,host=b",
            "host=a,kernel=1,host=b",
            "cpu=x",
            "Host=a",
            &long,
        ] {
            assert!(text.parse::<BuiltOn>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn lines_that_cannot_be_meant_are_refused() {
        assert_eq!(parse(b""), Ok(Builders::new()));
        for text in [
            "\n",
            "host=a p",
            "host=a\n",
            "host=a \n",
            "host=a /p\n",
            "host=a ../p\n",
            "p\n",
            "kernel=1,host=a p\n",
            "host=a p\n\n",
            "host=a p\nhost=b p\n",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            lines in prop::collection::btree_map("[a-z /~.-]{1,20}", ("[!-+\\--<>-~]{1,20}", prop::option::of("[0-9a-z.-]{1,20}")), 0..20)
        ) {
            let known = lines.into_iter().filter_map(|(path, (host, kernel))| {
                Some((TreePath::new(path.as_bytes()).ok()?, BuiltOn { host: Some(host), kernel }))
            });
            let builders: Builders = known.collect();
            prop_assert_eq!(parse(&render(&builders)), Ok(builders));
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(builders) = parse(&bytes) {
                prop_assert_eq!(parse(&render(&builders)), Ok(builders));
            }
        }
    }
}
