//! Names as they stand in paths that are also files: the evidence of a ref, which any web server or disk can hold.
//!
//! Percent-encoding does not do for that. A web server decodes `%2F` before it looks for a file, and file systems of
//! disks that are carried around know neither `:` nor the difference between `A` and `a`. So whatever is not a lower-
//! case letter, a digit or one of `-_.` is written as `~` and two hexadecimal digits. No name of ours has a `~`, so a
//! segment with one is never taken for a name that stands there as it is.

use std::fmt::Write as _;

use super::{Channel, NameError, RefName};

/// The most bytes of a segment: file systems take 255, and a file that is being written has a longer name.
const FILE_SEGMENT_BYTES_MAX: usize = 240;

impl Channel {
    /// The channel as the name of a file; none if it is longer than such names are.
    pub fn to_file_segment(&self) -> Option<String> {
        encode(self.as_str())
    }
}

impl RefName {
    /// The ref as the name of a file; none if it is longer than such names are.
    pub fn to_file_segment(&self) -> Option<String> {
        encode(&self.to_string())
    }
}

/// The path of the evidence of a ref, below the address of a server or an export. A name that no file can have is
/// percent-encoded, which only servers that compute their answers understand.
pub fn update_path(channel: &Channel, reference: &RefName) -> String {
    let channel = channel.to_file_segment().unwrap_or_else(|| channel.to_url_segment());
    let reference = reference.to_file_segment().unwrap_or_else(|| reference.to_url_segment());
    format!("v1/update/{channel}/{reference}")
}

/// Reads the name of a file. One without a `~` is the text itself.
pub fn decode_file_segment(segment: &str) -> Result<String, NameError> {
    let refused =
        || NameError::new("the name of a file", "expected `~` and two digits for each escape", segment);
    if !segment.contains('~') {
        return Ok(segment.to_owned());
    }
    let mut parts = segment.split('~');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or_else(refused)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| refused())?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    let text = String::from_utf8(bytes).map_err(|_| refused())?;
    // One spelling for each name: what is not written as we write it is refused.
    if encode(&text).as_deref() == Some(segment) { Ok(text) } else { Err(refused()) }
}

fn encode(text: &str) -> Option<String> {
    let mut segment = String::new();
    for (place, byte) in text.bytes().enumerate() {
        let is_plain = byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || matches!(byte, b'-' | b'_')
            // Some file systems drop a dot at the end.
            || byte == b'.' && place > 0 && place + 1 < text.len();
        if is_plain {
            segment.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(segment, "~{byte:02x}");
        }
    }
    (segment.len() <= FILE_SEGMENT_BYTES_MAX).then_some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_a_file_that_every_disk_can_hold() {
        let path = |channel: &str, reference: &str| {
            update_path(&channel.parse().unwrap(), &reference.parse().unwrap())
        };
        assert_eq!(path("repos/nixos", "branch:main"), "v1/update/repos~2fnixos/branch~3amain");
        assert_eq!(path("a", "tag:V2.1"), "v1/update/a/tag~3a~562.1");
        assert_eq!(path("a.", "branch:a/b%2F"), "v1/update/a~2e/branch~3aa~2fb~252~46");
        // A branch beside one that it would lie below as a file.
        assert_ne!(path("a", "branch:x"), path("a", "branch:X"));
        let long = format!("branch:{}", "Ä".repeat(100));
        assert_eq!(path("a", &long), format!("v1/update/a/branch:{}", "%C3%84".repeat(100)));
    }

    #[test]
    fn a_name_of_a_file_has_one_spelling() {
        assert_eq!(decode_file_segment("repos~2fnixos").unwrap(), "repos/nixos");
        assert_eq!(decode_file_segment("branch:Main").unwrap(), "branch:Main");
        for wrong in ["~", "~2", "a~2Fb", "~61", "a~zzb", "~ff", "A~2f", "~+f", "~é"] {
            assert!(decode_file_segment(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn segments_come_back(text in ".{0,40}") {
            if let Some(segment) = encode(&text).filter(|_| !text.contains('~')) {
                prop_assert!(segment.bytes().all(|byte| byte.is_ascii_lowercase() || !byte.is_ascii_alphabetic()));
                prop_assert_eq!(decode_file_segment(&segment), Ok(text));
            }
        }
    }
}
