//! Over which connection somebody works on this machine.
//!
//! A confirmation says that the host can still be reached. Over a connection that was there before the update it would
//! say nothing of the kind, so the two are told apart by what `sshd` says of each.

use std::fs;

const VARIABLE: &str = "SSH_CONNECTION";
/// How far up it is looked: nobody nests that many programs.
const ANCESTORS_MAX: usize = 64;
/// An address twice and a port twice; what is longer was not written by `sshd`.
const BYTES_MAX: usize = 256;

/// The ends of the connection that this program was typed over, if it is one of ssh: addresses and ports of both.
pub(super) fn this_one() -> Option<String> {
    let own = std::env::var(VARIABLE).ok().filter(|value| !value.is_empty() && value.len() <= BYTES_MAX);
    // Programs such as sudo do not hand the variable on, and those above them have it.
    own.or_else(|| of_ancestors(std::process::id()))
}

fn of_ancestors(mut process: u32) -> Option<String> {
    for _ in 0..ANCESTORS_MAX {
        process = parent_of(process)?;
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        if let Some(found) = in_environment(&environment) {
            return Some(found);
        }
    }
    None
}

fn parent_of(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    (parent > 1).then_some(parent)
}

fn in_environment(environment: &[u8]) -> Option<String> {
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| {
        variable.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"=").filter(|value| !value.is_empty())
    })?;
    (value.len() <= BYTES_MAX).then(|| String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_in_the_environment_that_sshd_has_made() {
        let found = |environment: &str| in_environment(environment.as_bytes());
        let one = "192.0.2.1 51000 192.0.2.2 22";
        assert_eq!(found(&format!("HOME=/root\0{VARIABLE}={one}\0TERM=x\0")).as_deref(), Some(one));
        for environment in ["", "HOME=/root\0", "SSH_CONNECTION=\0", "MY_SSH_CONNECTION=1\0"] {
            assert_eq!(found(environment), None, "{environment}");
        }
        assert_eq!(found(&format!("{VARIABLE}={}\0", "1".repeat(BYTES_MAX + 1))), None);
    }
}
