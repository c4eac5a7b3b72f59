//! Files that say what other files are: what `sha256sum`, `sha512sum` and `b2sum` write, with or without `--tag`. Pure.

use std::collections::BTreeMap;

use smart_sync_store::id::from_hex;
use smart_sync_store::manifest::TreePath;

use super::must::Sum;

/// The most bytes of such a file.
pub(super) const BYTES_MAX: u64 = 32 << 20;
/// How deep a file may lie.
const DEPTH_MAX: usize = 32;

/// The digest of each file. The name of what is read says which of the digests of one length it has.
pub(super) fn parse(name: &str, text: &[u8], files_max: usize) -> Result<BTreeMap<TreePath, Sum>, String> {
    let mut found = BTreeMap::new();
    let is_blake2b = {
        let name = name.to_ascii_lowercase();
        name.contains("b2") || name.contains("blake2")
    };
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let wrong = |reason: &str| format!("line {} of {name}: {reason}", at + 1);
        let line = str::from_utf8(line).map_err(|_| wrong("it is not text"))?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (file, sum) = tagged(line)
            .or_else(|| plain(line, is_blake2b))
            .ok_or_else(|| wrong("it has no digest and name"))?;
        let file = file.strip_prefix("./").unwrap_or(&file);
        let path = TreePath::new(file.as_bytes()).map_err(|error| wrong(&error.to_string()))?;
        if path.components().count() > DEPTH_MAX {
            return Err(wrong(&format!("the file lies more than {DEPTH_MAX} directories deep")));
        }
        if file.chars().any(char::is_control) {
            return Err(wrong("there is a control character in the name"));
        }
        if found.len() >= files_max {
            return Err(format!("{name} names more than {files_max} files"));
        }
        if found.insert(path, sum.clone()).is_some_and(|other| other != sum) {
            return Err(wrong("another line says something else of the same file"));
        }
    }
    if found.is_empty() {
        return Err(format!("{name} names no file"));
    }
    Ok(found)
}

/// `HEX  NAME`, or `HEX *NAME`.
fn plain(line: &str, is_blake2b: bool) -> Option<(String, Sum)> {
    // In front of the line, it says that there are such in the name, too.
    if line.starts_with('\\') {
        return None;
    }
    let (digest, name) = line.split_once(' ')?;
    let name = name.strip_prefix([' ', '*'])?;
    let algorithm = match digest.len() {
        64 => "SHA256",
        128 if is_blake2b => "BLAKE2B",
        128 => "SHA512",
        _ => return None,
    };
    Some((name.to_owned(), sum(algorithm, digest)?))
}

/// `SHA512 (NAME) = HEX`
fn tagged(line: &str) -> Option<(String, Sum)> {
    let (algorithm, rest) = line.split_once(" (")?;
    let (name, digest) = rest.rsplit_once(") = ")?;
    Some((name.to_owned(), sum(algorithm, digest)?))
}

fn sum(algorithm: &str, digest: &str) -> Option<Sum> {
    let digest = digest.to_ascii_lowercase();
    match algorithm.to_ascii_uppercase().as_str() {
        "SHA256" => from_hex(&digest).map(Sum::Sha256),
        "SHA512" => from_hex(&digest).map(Sum::Sha512),
        "BLAKE2B" => from_hex(&digest).map(Sum::Blake2b),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smart_sync_store::id::to_hex;

    use super::*;

    fn path(name: &str) -> TreePath {
        TreePath::new(name.as_bytes()).unwrap()
    }

    #[test]
    fn what_the_programs_write_is_read() {
        let (short, long) = ("ab".repeat(32), "cd".repeat(64));
        let text = format!(
            "# ours\n{short}  a b.tar\n{short} *./dir/b\r\n\n{long}  c\nSHA256 (d (1)) = {short}\n\
             BLAKE2b (e) = {long}\nSHA512 (f) = {}\n",
            long.to_uppercase()
        );
        let (sha256, sha512) = (Sum::Sha256([0xab; 32]), Sum::Sha512([0xcd; 64]));
        let blake2b = Sum::Blake2b([0xcd; 64]);
        let expected = [
            ("a b.tar", sha256.clone()),
            ("c", sha512.clone()),
            ("d (1)", sha256.clone()),
            ("dir/b", sha256),
            ("e", blake2b.clone()),
            ("f", sha512),
        ];
        let expected: BTreeMap<_, _> = expected.into_iter().map(|(name, sum)| (path(name), sum)).collect();
        assert_eq!(parse("SHA512SUMS", text.as_bytes(), 10), Ok(expected));
        assert_eq!(
            parse("B2SUMS", format!("{long}  c\n").as_bytes(), 1),
            Ok(BTreeMap::from([(path("c"), blake2b)]))
        );
    }

    #[test]
    fn what_cannot_be_relied_on_is_refused() {
        let digest = "ab".repeat(64);
        let deep = format!("{digest}  {}x", "d/".repeat(32));
        for (text, said) in [
            (format!("{digest}  ../x"), "line 1 of SUMS: a component of the path is `.` or `..`"),
            (format!("{digest}  /etc/passwd"), "the path is absolute"),
            (format!("{digest}  a//b"), "a component of the path is empty"),
            (format!("{digest}  .git/config"), "`.git`"),
            (format!("{digest}  "), "the path is empty"),
            (format!("{digest}  a\u{1b}[2J"), "a control character"),
            (format!("\\{digest}  a\\nb"), "it has no digest and name"),
            (format!("{}  a", &digest[1..]), "it has no digest and name"),
            (format!("MD5 (a) = {}", &digest[..32]), "it has no digest and name"),
            ("<html>not found</html>".to_owned(), "it has no digest and name"),
            (format!("{digest}  a\n{}  a", "00".repeat(64)), "line 2 of SUMS: another line"),
            (format!("{digest}  a\n{digest}  b\n{digest}  c"), "names more than 2 files"),
            (deep, "more than 32 directories deep"),
            ("\n# nothing\n".to_owned(), "SUMS names no file"),
        ] {
            let error = parse("SUMS", text.as_bytes(), 2).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(parse("SUMS", b"\xff", 2).unwrap_err().contains("it is not text"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(names in prop::collection::btree_set("[a-zA-Z0-9+._ ~-]{1,30}[a-z]", 1..20), digest in any::<[u8; 32]>()) {
            let lines: Vec<String> = names.iter().map(|name| format!("{}  {name}\n", to_hex(&digest))).collect();
            let text = lines.concat();
            let parsed = parse("SHA256SUMS", text.as_bytes(), 20).unwrap();
            prop_assert_eq!(parsed.len(), names.len());
            prop_assert!(parsed.values().all(|sum| *sum == Sum::Sha256(digest)));
        }

        #[test]
        fn whatever_is_read_names_nothing_outside(text in "([0-9a-f]{64}  )?[./a\\\\ \n]{0,40}") {
            for path in parse("SUMS", text.as_bytes(), 10).unwrap_or_default().into_keys() {
                prop_assert!(path.components().all(|component| component != b".."));
            }
        }
    }
}
