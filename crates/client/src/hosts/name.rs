//! What a host is called, on the command line and by ssh.
//!
//! A destination becomes an argument of ssh, which takes what begins with `-` for an option and hands names on to shells
//! of its own configuration. So only what names of users and machines are made of is taken.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// The longest destination.
const DESTINATION_BYTES_MAX: usize = 255;
/// The longest name of a group.
const GROUP_BYTES_MAX: usize = 64;
/// The longest path of the program.
const PROGRAM_BYTES_MAX: usize = 1024;

/// What ssh calls a host: `HOST`, `USER@HOST` or `ssh://USER@HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination(Box<str>);

/// The name of a group of hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group(Box<str>);

/// Where the program is on another host: a path of plain characters, which no shell takes for anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramPath(Box<str>);

/// Hosts, as they are named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// All of a group.
    Group(Group),
    /// One, by its name in the configuration, or as ssh calls it.
    One(Destination),
}

impl Destination {
    /// The text that ssh is given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ProgramPath {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProgramPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = |name: &str| {
            let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
            !matches!(name, "" | "." | "..") && !name.starts_with('-') && name.bytes().all(is_usual)
        };
        let names = text.strip_prefix('/').filter(|_| text.len() <= PROGRAM_BYTES_MAX);
        if names.is_some_and(|names| names.split('/').all(is_name)) {
            return Ok(Self(text.into()));
        }
        Err(
            "a program is named by an absolute path of letters, digits and `._+-`, such as /usr/local/bin/smart-sync",
        )
    }
}

impl FromStr for Destination {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@:[]%/+".contains(&byte);
        if text.is_empty() || text.len() > DESTINATION_BYTES_MAX || !text.bytes().all(is_usual) {
            return Err("a host is named as for ssh, such as web1 or root@web.example.org");
        }
        if text.starts_with('@') {
            return Err("`@` in front of a name means a group");
        }
        // Also behind the name of a user, where older versions of ssh look for options as well.
        if text.split(['@', '/']).any(|part| part.starts_with('-')) {
            return Err("a name that begins with `-` would be an option of ssh");
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for Group {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_group = !text.is_empty() && text.len() <= GROUP_BYTES_MAX && text.bytes().all(is_usual);
        if is_group { Ok(Self(text.into())) } else { Err("a group is named by letters, digits and `._-`") }
    }
}

impl FromStr for Named {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix('@') {
            Some(group) => group.parse().map(Self::Group),
            None => text.parse().map(Self::One),
        }
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ProgramPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Group {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_or_a_shell_would_act_on_is_refused() {
        for taken in ["web1", "root@web.example.org", "ssh://root@web:2222", "root@fe80::1%eth0", "u+x@[::1]"]
        {
            assert_eq!(taken.parse::<Destination>().unwrap().as_str(), taken);
        }
        let long = "a".repeat(256);
        for refused in [
            "",
            "-oProxyCommand=id",
            "root@-oProxyCommand=id",
            "ssh://-oProxyCommand=id",
            "web 1",
            "web\n1",
            "web\x1b[2J",
            "$(id)",
            "`id`",
            "a;b",
            "a'b",
            "wéb",
            "~",
            "@web",
            &long,
        ] {
            assert!(refused.parse::<Destination>().is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_group_is_written_with_an_at_sign() {
        assert_eq!("@web".parse(), Ok(Named::Group("web".parse().unwrap())));
        assert_eq!("web".parse(), Ok(Named::One("web".parse().unwrap())));
        for refused in ["@", "@a b", "@a/b", "@@a"] {
            assert!(refused.parse::<Named>().is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_program_is_an_absolute_path_that_means_itself_to_a_shell() {
        for path in ["/usr/local/bin/smart-sync", "/opt/a_b-1.0+x/smart-sync"] {
            assert_eq!(path.parse::<ProgramPath>().map(|path| path.as_str().to_owned()), Ok(path.to_owned()));
        }
        let long = format!("/{}", "x".repeat(PROGRAM_BYTES_MAX));
        for path in [
            "",
            "smart-sync",
            "/",
            "/bin/",
            "//bin/x",
            "/a/../x",
            "/a/./x",
            "/a b",
            "/a$x",
            "/a;x",
            "/-x",
            &long,
        ] {
            assert!(path.parse::<ProgramPath>().is_err(), "{path}");
        }
    }
}
