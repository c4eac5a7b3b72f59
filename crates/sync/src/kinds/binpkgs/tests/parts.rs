//! What holds for every compression, and for segments of metadata.

use std::io::Cursor;

use proptest::prelude::*;

use super::super::codec::{Codec, CodecError};
use super::super::package::Container;
use super::super::{PackageError, gpkg, xpak};
use super::draft::{Draft, compress, metadata};

fn openable() -> impl Iterator<Item = Codec> {
    Codec::ALL.into_iter().filter(|codec| *codec != Codec::Lzop)
}

/// A segment as Portage writes it, and the bytes behind it.
pub(super) fn segment(values: &[(String, Vec<u8>)]) -> Vec<u8> {
    let number = |len: usize| u32::try_from(len).unwrap().to_be_bytes();
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for (key, value) in values {
        index.extend_from_slice(&number(key.len()));
        index.extend_from_slice(key.as_bytes());
        index.extend_from_slice(&number(data.len()));
        index.extend_from_slice(&number(value.len()));
        data.extend_from_slice(value);
    }
    let lengths = [number(index.len()), number(data.len())].concat();
    let segment = [&b"XPAKPACK"[..], &lengths, &index, &data, b"XPAKSTOP"].concat();
    [&segment[..], &number(segment.len()), b"STOP"].concat()
}

#[test]
fn packages_of_every_compression_are_read() {
    for codec in openable() {
        let package = gpkg::read(&Draft::sound(codec).bytes()[..]).unwrap();
        assert_eq!(package.image.codec, codec);
        assert_eq!(package.metadata.text("DEPEND").unwrap(), "nls? ( sys-devel/gettext )", "{codec}");
    }
}

#[test]
fn a_compression_that_cannot_be_opened_is_named() {
    let error = gpkg::read(&Draft::sound(Codec::Lzop).bytes()[..]).unwrap_err();
    assert!(matches!(error, PackageError::Codec { error: CodecError::Unsupported(Codec::Lzop), .. }));
    assert!(error.hint().contains("BINPKG_COMPRESS"));
}

#[test]
fn a_window_of_zstd_that_takes_too_much_memory_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    std::io::Write::write_all(&mut encoder, b"hello").unwrap();
    let packed = encoder.finish().unwrap();
    assert!(matches!(Codec::Zstd.decode(&packed, 100), Err(CodecError::Decode { .. })));
}

proptest! {
    #[test]
    fn what_was_compressed_comes_back(bytes in prop::collection::vec(0..4_u8, 0..3000)) {
        for codec in openable() {
            let packed = compress(codec, &bytes);
            prop_assert_eq!(&codec.decode(&packed, 3000).unwrap(), &bytes, "{}", codec);
            let is_recognised = codec == Codec::Plain || Codec::of_bytes(&packed) == codec;
            prop_assert!(is_recognised, "{}", codec);
        }
    }

    #[test]
    fn what_is_more_than_allowed_or_not_all_of_it_is_refused(
        bytes in prop::collection::vec(0..4_u8, 1..3000),
        cut in 0.0..1.0_f64,
    ) {
        for codec in openable().filter(|codec| *codec != Codec::Plain) {
            let packed = compress(codec, &bytes);
            let limit = bytes.len() as u64 - 1;
            prop_assert!(matches!(codec.decode(&packed, limit), Err(CodecError::TooLarge { .. })), "{}", codec);
            let tail = [&packed[..], b"more"].concat();
            prop_assert!(codec.decode(&tail, 3000).is_err(), "{} with bytes behind it", codec);
            let twice = codec.decode(&[&packed[..], &packed].concat(), 6000).ok();
            prop_assert!(twice == Some([&bytes[..], &bytes].concat()), "{} after itself", codec);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let len = (cut * packed.len() as f64) as usize;
            if len > 0 {
                prop_assert!(codec.decode(&packed[..len], 3000).is_err(), "{} cut to {}", codec, len);
            }
        }
    }

    #[test]
    fn the_values_of_a_segment_come_back(
        values in prop::collection::btree_map("[A-Z][A-Za-z.0-9_+-]{0,20}", prop::collection::vec(any::<u8>(), 0..50), 0..20),
        image in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let values: Vec<(String, Vec<u8>)> = values.into_iter().collect();
        let file = [&image[..], &segment(&values)].concat();
        let package = xpak::read(Cursor::new(&file)).unwrap();
        let read: Vec<(String, Vec<u8>)> =
            package.metadata.iter().map(|(key, value)| (key.to_owned(), value.to_vec())).collect();
        prop_assert_eq!(read, values);
        prop_assert_eq!(package.image.range, 0..image.len() as u64);
    }
}

#[test]
fn segments_that_lie_are_refused() {
    let sound = [&b"BZh9"[..], &segment(&metadata())].concat();
    assert_eq!(xpak::read(Cursor::new(&sound)).unwrap().container, Container::Xpak);
    let end = sound.len();
    let index = 4 + 16;
    let key_len = "BUILD_ID".len();
    let check = |change: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let mut file = sound.clone();
        change(&mut file);
        let error = xpak::read(Cursor::new(&file)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error} instead of {expected}");
        assert!(!error.hint().is_empty());
    };
    check(&|file| file.clear(), "too short");
    check(&|file| file.push(0), "does not end with STOP");
    check(&|file| file[end - 8..end - 4].fill(0xff), "cannot have 4294967295 bytes");
    check(&|file| file[end - 8..end - 4].fill(0), "cannot have 0 bytes");
    check(&|file| file[end - 5] -= 1, "does not begin with XPAKPACK");
    check(&|file| file[end - 9] = b'x', "does not end with XPAKSTOP");
    check(&|file| file[4 + 11] += 1, "do not make up the segment");
    check(&|file| file[index] = 0xff, "in the middle of an entry");
    check(&|file| file[index + 4] = b'/', "no name of a key");
    check(&|file| file[index + 4 + key_len + 3] = 1, "does not follow the one before");
    check(&|file| file[index + 4 + key_len + 4] = 1, "outside of the data");
    let twice = [metadata(), metadata()].concat();
    check(&|file| *file = segment(&twice), "comes twice");
}
