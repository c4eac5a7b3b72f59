//! Headers of tar in columns: what one version changes in every header, such as a time or the name of the directory that
//! all lies in, then stands in one place.
//!
//! A block is the types of all headers, and then, first for the headers that describe another one and then for the rest,
//! each field of all of them. Of a name, what it has in common with the one before it is left out.

use super::tar::{self, HEADER_LEN, NAME, TYPE};

/// A header of tar.
pub(crate) type Header = [u8; HEADER_LEN];

/// The most headers of a block.
pub(crate) const HEADERS_MAX: usize = 8192;

/// Where the fields end: name, mode, user, group, size, time, sum, type, link, magic and version, names of user and
/// group, device, and the beginning of the path.
const FIELD_ENDS: [usize; 14] = [100, 108, 116, 124, 136, 148, 156, 157, 257, 265, 297, 329, 345, 512];

/// The fields of a header without its type.
fn fields() -> impl Iterator<Item = std::ops::Range<usize>> {
    let starts = std::iter::once(0).chain(FIELD_ENDS);
    starts.zip(FIELD_ENDS).map(|(start, end)| start..end).filter(|field| field.start != TYPE)
}

/// The numbers of the headers that describe another one, and those of the others.
fn groups(types: &[u8]) -> [Vec<usize>; 2] {
    let (describing, others) = (0..types.len()).partition(|number| tar::describes_another(types[*number]));
    [describing, others]
}

/// Puts headers into columns.
pub(crate) fn encode(headers: &[Header]) -> Vec<u8> {
    let types: Vec<_> = headers.iter().map(|header| header[TYPE]).collect();
    let mut out = Vec::with_capacity(headers.len() * HEADER_LEN);
    out.extend_from_slice(&types);
    for group in groups(&types) {
        let mut before = [0; NAME.end];
        for number in &group {
            let name = headers[*number].first_chunk().expect("a header is longer than a name");
            out.extend_from_slice(&without_common(name, &before));
            before = *name;
        }
        for field in fields().filter(|field| *field != NAME) {
            for number in &group {
                out.extend_from_slice(&headers[*number][field.clone()]);
            }
        }
    }
    out
}

/// Takes headers out of columns, as many as there are bytes for.
pub(crate) fn decode(columns: &[u8]) -> Vec<Header> {
    let mut headers = vec![[0; HEADER_LEN]; columns.len() / HEADER_LEN];
    let (types, mut rest) = columns.split_at(headers.len());
    for (header, kind) in headers.iter_mut().zip(types) {
        header[TYPE] = *kind;
    }
    for group in groups(types) {
        for field in fields() {
            for number in &group {
                let (bytes, after) = rest.split_at(field.len());
                headers[*number][field.clone()].copy_from_slice(bytes);
                rest = after;
            }
        }
        let mut before = [0; NAME.end];
        for number in group {
            let common = headers[number][NAME].iter().take_while(|byte| **byte == 0).count();
            headers[number][..common].copy_from_slice(&before[..common]);
            before.copy_from_slice(&headers[number][NAME]);
        }
    }
    headers
}

/// A name with NUL bytes for what it has in common with the one before it.
fn without_common(name: &[u8; NAME.end], before: &[u8; NAME.end]) -> [u8; NAME.end] {
    let common = name.iter().zip(before).take_while(|(byte, before)| byte == before).count();
    let mut short = *name;
    // A NUL byte behind what was left out would seem to be left out too.
    if name.get(common) != Some(&0) {
        short[..common].fill(0);
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = Header> {
        let name = prop::collection::vec(prop::sample::select(b"ab/".to_vec()), 1..=100);
        (name, prop::sample::select(b"0xL5\0".to_vec()), any::<u64>()).prop_map(|(name, kind, other)| {
            let mut header = [0; HEADER_LEN];
            header[..name.len()].copy_from_slice(&name);
            header[TYPE] = kind;
            for (field, byte) in fields().skip(1).zip(other.to_le_bytes().into_iter().cycle()) {
                header[field].fill(byte);
            }
            header
        })
    }

    proptest! {
        #[test]
        fn headers_come_back(headers in prop::collection::vec(header(), 0..40)) {
            let columns = encode(&headers);
            prop_assert_eq!(columns.len(), headers.len() * HEADER_LEN);
            prop_assert_eq!(decode(&columns), headers);
        }

        #[test]
        fn any_columns_are_taken_for_headers(columns in prop::collection::vec(any::<u8>(), 0..4 * HEADER_LEN)) {
            let whole = &columns[..columns.len() / HEADER_LEN * HEADER_LEN];
            prop_assert_eq!(decode(whole).len() * HEADER_LEN, whole.len());
        }
    }

    #[test]
    fn what_names_have_in_common_stands_once() {
        let named = |name: &str| {
            let mut header = [0; HEADER_LEN];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header
        };
        let columns = encode(&["p-1/", "p-1/a", "p-1/ab", "p-1/a", "q"].map(named));
        let mut expected = Vec::new();
        for name in ["p-1/", "\0\0\0\0a", "\0\0\0\0\0b", "p-1/a", "q"] {
            let mut field = [0; 100];
            field[..name.len()].copy_from_slice(name.as_bytes());
            expected.extend_from_slice(&field);
        }
        assert_eq!(columns[5..505], expected);
    }
}
