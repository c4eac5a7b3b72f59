//! What must not be taken over from a backend: passwords, keys, and what names a key. Pure.
//!
//! It is told by names and by lines, and rather too often than too seldom: what is left out is said, and whoever knows
//! better publishes it by hand.

/// Files that hold a secret by their very name.
const NAMES: [&str; 14] = [
    ".netrc",
    "_netrc",
    ".pgpass",
    ".git-credentials",
    ".my.cnf",
    ".rsyncd.secrets",
    "rsyncd.secrets",
    "shadow",
    "shadow-",
    "gshadow",
    "gshadow-",
    "secring.gpg",
    ".htpasswd",
    "credentials",
];
/// Directories whose files are all secret.
const DIRECTORIES: [&str; 3] = ["private-keys-v1.d", ".gnupg", ".ssh"];
/// Words in the name of a variable that holds a secret.
const SECRET_WORDS: [&str; 4] = ["PASSWORD", "PASSWD", "PASSPHRASE", "ROOTPW"];
/// How the name of a variable ends that holds a secret.
const SECRET_ENDS: [&str; 4] = ["SECRET", "TOKEN", "API_KEY", "APIKEY"];
/// Variables that say which key signs: that of the new server is another one.
const SIGNING_KEYS: [&str; 3] = ["PKGDIR_KEY", "BINPKG_GPG_SIGNING_KEY", "PORTAGE_GPG_KEY"];
/// Values that are no secret.
const HARMLESS: [&str; 12] = ["yes", "no", "true", "false", "none", "null", "0", "1", "x", "*", "!", "ask"];
/// Programs and options that are given a password.
const GIVEN: [&str; 6] =
    ["chpasswd", "passwd --stdin", "sshpass -p", "--passphrase ", "--password=", "--password "];
/// How a password begins that was made one-way.
const CRYPTED: [&str; 5] = ["$1$", "$5$", "$6$", "$y$", "$2b$"];
/// What a private key begins with, in whatever form.
const PRIVATE_KEY: &str = "PRIVATE KEY";

/// What stands in a text that must not be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Secrets {
    /// Nothing.
    None,
    /// These lines, counted from 1 on; the text without them is sound.
    Lines(Vec<(usize, &'static str)>),
    /// Something that no line can be taken out for.
    Whole(usize, &'static str),
}

/// What a file is by its name, where that is secret.
pub(crate) fn of_name(path: &[u8]) -> Option<&'static str> {
    let mut names = path.rsplit(|byte| *byte == b'/');
    let name = String::from_utf8_lossy(names.next().unwrap_or_default());
    let is_ssh_key = (name.starts_with("id_") || name.starts_with("ssh_host_")) && !name.ends_with(".pub");
    if is_ssh_key || NAMES.contains(&&*name) {
        return Some("a file of passwords or keys");
    }
    let is_secret = |name: &[u8]| DIRECTORIES.iter().any(|known| known.as_bytes() == name);
    names.any(is_secret).then_some("a file of keys")
}

/// What stands in a text. `is_program` where taking a line out could change what the others do.
pub(crate) fn of_text(text: &[u8], is_program: bool) -> Secrets {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(what) = of_line(line, lines.get(at + 1).copied()) else { continue };
        let goes_on = |line: &str| line.trim_end().ends_with('\\');
        let is_open = |quote: char| line.matches(quote).count() % 2 == 1;
        let is_part = at > 0 && goes_on(lines[at - 1]) || goes_on(line) || is_open('"') || is_open('\'');
        if is_program || is_part || what == PRIVATE || what == BELOW || text.starts_with("#!") {
            return Secrets::Whole(at + 1, what);
        }
        found.push((at + 1, what));
    }
    if found.is_empty() { Secrets::None } else { Secrets::Lines(found) }
}

/// A text without some of its lines.
pub(crate) fn without(text: &[u8], lines: &[(usize, &'static str)]) -> Vec<u8> {
    let kept = (1..).zip(text.split_inclusive(|byte| *byte == b'\n'));
    kept.filter(|(number, _)| !lines.iter().any(|(line, _)| line == number))
        .flat_map(|(_, line)| line)
        .copied()
        .collect()
}

const PRIVATE: &str = "a private key";
const BELOW: &str = "what looks like a password, in the lines below";

fn of_line(line: &str, next: Option<&str>) -> Option<&'static str> {
    let line = line.trim_start();
    if line.contains("-----BEGIN") && line.contains(PRIVATE_KEY) {
        return Some(PRIVATE);
    }
    if has_login(line) {
        return Some("a password in a URL");
    }
    if GIVEN.iter().any(|given| line.contains(given)) && !line.starts_with('#') {
        return Some("a command that is given a password");
    }
    if line.contains("machine ") && line.contains("password ") {
        return Some("a login");
    }
    if CRYPTED.iter().any(|start| line.split(start).skip(1).any(is_crypted)) {
        return Some("a password that was made one-way");
    }
    assigned(line, next)
}

/// Whether what stands behind `$6$` and the like is a hash and no variable.
fn is_crypted(rest: &str) -> bool {
    let is_of_it = |character: &char| character.is_ascii_alphanumeric() || "./$=,".contains(*character);
    rest.chars().take_while(is_of_it).count() >= 20
}

/// Whether there is a URL with a user and a password.
fn has_login(line: &str) -> bool {
    line.match_indices("://").any(|(at, _)| {
        let rest = &line[at + 3..];
        let end = rest.find(|character: char| character.is_whitespace() || "/\"'<>".contains(character));
        let authority = &rest[..end.unwrap_or(rest.len())];
        authority
            .rsplit_once('@')
            .and_then(|(login, _)| login.split_once(':'))
            .is_some_and(|(_, password)| !password.is_empty() && !password.starts_with('$'))
    })
}

/// What a line of the form `NAME=VALUE` or `name: value` gives a value to, where that is secret.
fn assigned(line: &str, next: Option<&str>) -> Option<&'static str> {
    let mut line = line.trim_start_matches('#').trim_start().trim_start_matches('-');
    for word in ["export ", "declare ", "local ", "readonly "] {
        line = line.strip_prefix(word).unwrap_or(line);
    }
    let end =
        line.find(|character: char| !(character.is_ascii_alphanumeric() || "_-.".contains(character)))?;
    let (name, rest) = line.split_at(end);
    let (is_colon, value) = match rest.trim_start().split_at_checked(1)? {
        ("=", value) => (false, value),
        (":", value) => (true, value.strip_prefix('=').unwrap_or(value)),
        _ => return None,
    };
    let name = name.to_ascii_uppercase().replace('-', "_");
    let is_signing = SIGNING_KEYS.contains(&&*name);
    let is_secret = SECRET_WORDS.iter().any(|word| name.contains(word))
        || SECRET_ENDS.iter().any(|end| name.ends_with(end));
    if !is_signing && !is_secret {
        return None;
    }
    let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    if value.is_empty() {
        let goes_below = next.is_some_and(|next| next.starts_with([' ', '-', '\t']));
        return (is_colon && goes_below).then_some(BELOW);
    }
    let is_harmless = value.starts_with('$')
        || HARMLESS.contains(&&*value.to_ascii_lowercase())
        // `passwd: files systemd` says where users are looked up.
        || is_colon && name == "PASSWD" && value.split_whitespace().all(|word| LOOKED_UP.contains(&word));
    if is_harmless {
        return None;
    }
    Some(if is_signing { "the name of a key that signs" } else { "what looks like a password" })
}

const LOOKED_UP: [&str; 7] = ["files", "compat", "db", "systemd", "ldap", "sss", "nis"];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<&str>) {
        assert_eq!(of_line(line, None), expected, "{line}");
    }

    #[test]
    fn lines_that_hold_secrets_are_told_from_those_that_only_speak_of_them() {
        let password = Some("what looks like a password");
        check("PASSWORD=hunter2", password);
        check("export ROOT_PASSWD='hunter2'", password);
        check("# PASSWORD=hunter2", password);
        check("  -rootpw:hunter2", password);
        check("gpg_passphrase: \"a b\"", password);
        check("GITHUB_TOKEN = abc", password);
        check("PKGDIR_KEY=\"0x1234\"", Some("the name of a key that signs"));
        check("BINPKG_GPG_SIGNING_KEY=0x1234", Some("the name of a key that signs"));
        check("SYNC=rsync://me:hunter2@host.example.org/gentoo", Some("a password in a URL"));
        check("echo root:hunter2 | chpasswd", Some("a command that is given a password"));
        check("machine host login me password hunter2", Some("a login"));
        check("-----BEGIN OPENSSH PRIVATE KEY-----", Some(PRIVATE));
        check(&format!("root:$6${}:19000:", "a".repeat(30)), Some("a password that was made one-way"));
        for harmless in [
            "PASSWORD=",
            "PASSWORD=\"\"",
            "PASSWORD=$1",
            "PASSWORD=\"${SECRET}\"",
            "PasswordAuthentication = no",
            "passwd: files systemd",
            "PASSWORDS are bad",
            "USE=\"passwdqc\"",
            "app-admin/passwords minimal",
            "http://host.example.org/a:b@c",
            "git@host:repository",
            "if test \"$6$x\" = y",
        ] {
            check(harmless, None);
        }
    }

    #[test]
    fn a_line_is_taken_out_only_where_the_others_stay_what_they_are() {
        let of = |text: &str, is_program| of_text(text.as_bytes(), is_program);
        let password = "what looks like a password";
        assert_eq!(of("A=1\nPASSWORD=b\nB=2\n", false), Secrets::Lines(vec![(2, password)]));
        assert_eq!(of("A=1\nPASSWORD=b\n", true), Secrets::Whole(2, password));
        assert_eq!(of("#!/bin/sh\nPASSWORD=b\n", false), Secrets::Whole(2, password));
        assert_eq!(of("PASSWORD=b \\\n c\n", false), Secrets::Whole(1, password));
        assert_eq!(of("X=\\\nPASSWORD=b\n", false), Secrets::Whole(2, password));
        assert_eq!(of("PASSWORD=\"b\nc\"\n", false), Secrets::Whole(1, password));
        assert_eq!(of("users:\n  passwords:\n    -alice:x1\n", false), Secrets::Whole(2, BELOW));
        assert_eq!(of("A=1\n", true), Secrets::None);
        assert_eq!(without(b"a\nPASSWORD=b\nc", &[(2, password)]), b"a\nc");
    }

    #[test]
    fn some_names_say_enough() {
        for secret in
            ["root/.netrc", "etc/shadow", "a/id_ed25519", "home/.ssh/config", "etc/ssh/ssh_host_rsa_key"]
        {
            assert!(of_name(secret.as_bytes()).is_some(), "{secret}");
        }
        for harmless in
            ["etc/netrc.conf", "etc/shadowsocks", "a/id_ed25519.pub", "ssh/config", "packages/identity"]
        {
            assert_eq!(of_name(harmless.as_bytes()), None, "{harmless}");
        }
    }
}
