//! Whose something has to be: names of this host, and their numbers.

use std::fmt;

/// A user, and where it matters a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    name: String,
    /// The user's number.
    pub user: u32,
    /// The group's number.
    pub group: Option<u32>,
}

impl Owner {
    /// Finds `USER` or `USER:GROUP`, by name or number, in the contents of `/etc/passwd` and `/etc/group`.
    pub(super) fn find(text: &str, passwd: &str, group: &str) -> Result<Self, String> {
        let (user, of_group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let id = |name: &str, list: &str, what: &str| {
            let listed = list.lines().find_map(|line| {
                let mut fields = line.split(':');
                (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
            });
            listed.or_else(|| name.parse().ok()).ok_or_else(|| format!("there is no {what} `{name}` here"))
        };
        Ok(Self {
            name: text.to_owned(),
            user: id(user, passwd, "user")?,
            group: of_group.map(|name| id(name, group, "group")).transpose()?,
        })
    }

    /// Whether it is theirs.
    pub(super) fn is_of(&self, user: u32, group: u32) -> bool {
        self.user == user && self.group.is_none_or(|wanted| wanted == group)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_found_by_name_or_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nalice:x:1000:100::/home/alice:/bin/sh\n";
        let group = "root:x:0:\nusers:x:100:alice\n";
        let found = |text: &str| Owner::find(text, passwd, group).map(|owner| (owner.user, owner.group));
        assert_eq!(found("root"), Ok((0, None)));
        assert_eq!(found("alice:users"), Ok((1000, Some(100))));
        assert_eq!(found("7:8"), Ok((7, Some(8))));
        assert_eq!(found("bob"), Err("there is no user `bob` here".to_owned()));
        assert_eq!(found("root:wheel"), Err("there is no group `wheel` here".to_owned()));
        let owner = Owner::find("root", passwd, group).unwrap();
        assert!(owner.is_of(0, 5) && !owner.is_of(1, 0));
    }
}
