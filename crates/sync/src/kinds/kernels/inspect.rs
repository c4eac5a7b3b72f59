//! What the parts of a kernel say of themselves, as far as a host relies on it. Nothing of them is ever run or believed
//! beyond that; what is not recognised is refused by the name of what it should be.

use super::version::Version;

/// The first bytes of an image that say what it is: a header, and for x86 a text that it points to.
pub(super) const IMAGE_BYTES: u64 = 0x1_0400;
/// The largest configuration.
pub(super) const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// The bytes of symbols that are looked at: a line.
pub(super) const MAP_BYTES: u64 = 4096;
/// The first bytes of a module that are looked at.
pub(super) const MODULE_BYTES: u64 = 18;

/// The type of a file of the executable and linkable format that is linked into something else.
const RELOCATABLE: u16 = 1;
/// How compressed modules end, and how they begin.
const COMPRESSED: [(&str, &[u8]); 3] =
    [(".ko.gz", b"\x1f\x8b"), (".ko.xz", b"\xfd7zXZ\0"), (".ko.zst", b"\x28\xb5\x2f\xfd")];

/// What an image says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Image {
    /// The release, as the kernel calls itself when it runs.
    Release(Version),
    /// An image that does not say it where it could be read without running it.
    Silent(&'static str),
}

/// Looks at the beginning of an image.
pub(super) fn image(bytes: &[u8]) -> Result<Image, String> {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    // The boot protocol of x86: Documentation/arch/x86/boot.rst.
    if at(0x1fe, b"\x55\xaa") && at(0x202, b"HdrS") {
        return of_x86(bytes).map(Image::Release);
    }
    let silent = [
        (at(0x38, b"ARM\x64"), "an image for ARM of 64 bits"),
        (at(0x38, b"RSC\x05"), "an image for RISC-V"),
        (at(0x24, b"\x18\x28\x6f\x01"), "an image for ARM"),
        (at(0, b"MZ") && at(4, b"zimg"), "a compressed EFI image"),
        (at(0, b"MZ"), "an EFI image"),
        (at(0, b"\x7fELF"), "a linked kernel"),
        (at(0, b"\x1f\x8b"), "a gzip-compressed image"),
        (at(0, b"\x27\x05\x19\x56"), "an image for U-Boot"),
    ];
    let found = silent.into_iter().find(|(is_it, _)| *is_it);
    found.map(|(_, what)| Image::Silent(what)).ok_or_else(|| {
        "it is no image of a kernel: neither x86 nor anything else that is known boots it".to_owned()
    })
}

fn of_x86(bytes: &[u8]) -> Result<Version, String> {
    let pointer = bytes.get(0x20e..0x210).and_then(|field| field.try_into().ok()).map(u16::from_le_bytes);
    let start = pointer.filter(|pointer| *pointer > 0).map(|pointer| usize::from(pointer) + 0x200);
    let text = start.and_then(|start| bytes.get(start..)).unwrap_or_default();
    let end = text.iter().position(|byte| matches!(byte, 0 | b' '));
    let release = end.and_then(|end| str::from_utf8(&text[..end]).ok());
    let release = release.and_then(|release| release.parse().ok());
    release.ok_or_else(|| "it is an image for x86 that does not say which version it is".to_owned())
}

/// What a configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    /// The version of the source.
    pub(super) version: Version,
    /// Whether the kernel has modules.
    pub(super) has_modules: bool,
}

/// Reads a configuration.
pub(super) fn config(bytes: &[u8]) -> Result<Config, String> {
    const HEAD_LINES: usize = 16;
    let text = str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    let version = text.lines().take(HEAD_LINES).find_map(|line| {
        let line = line.strip_prefix("# ")?;
        let version = match line.strip_prefix("Linux kernel version: ") {
            Some(version) => version,
            None => line.strip_prefix("Linux/")?.split_once(' ')?.1.strip_suffix(" Kernel Configuration")?,
        };
        version.trim().parse().ok()
    });
    let version = version.ok_or_else(|| {
        "no line of its head says of which version of Linux it is the configuration".to_owned()
    })?;
    Ok(Config { version, has_modules: text.lines().any(|line| line == "CONFIG_MODULES=y") })
}

/// Looks at the first line of a table of symbols.
pub(super) fn map(bytes: &[u8]) -> Result<(), String> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let is_address = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_hexdigit);
    let is_type = |word: &[u8]| matches!(word, [letter] if letter.is_ascii_alphabetic() || *letter == b'?');
    let is_line = words.next().is_some_and(is_address)
        && words.next().is_some_and(is_type)
        && words.next().is_some_and(|name| !name.is_empty());
    if is_line { Ok(()) } else { Err("its first line is no symbol: ADDRESS TYPE NAME".to_owned()) }
}

/// Whether a file among modules has to be one, by its name.
pub(super) fn is_module(name: &[u8]) -> bool {
    name.ends_with(b".ko") || COMPRESSED.iter().any(|(end, _)| name.ends_with(end.as_bytes()))
}

/// Looks at the beginning of a module.
pub(super) fn module(name: &[u8], bytes: &[u8]) -> Result<(), &'static str> {
    if let Some((_, magic)) = COMPRESSED.iter().find(|(end, _)| name.ends_with(end.as_bytes())) {
        return if bytes.starts_with(magic) { Ok(()) } else { Err("it is not compressed as its name says") };
    }
    let kind = match (bytes.get(..4), bytes.get(5), bytes.get(16..18)) {
        (Some(b"\x7fELF"), Some(1), Some(&[low, high])) => Some(u16::from_le_bytes([low, high])),
        (Some(b"\x7fELF"), Some(2), Some(&[high, low])) => Some(u16::from_be_bytes([high, low])),
        _ => None,
    };
    match kind {
        Some(RELOCATABLE) => Ok(()),
        Some(_) => Err("it is a program or a library, and no module"),
        None => Err("it is no module"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The smallest image of x86 that says its release.
    pub(in crate::kinds::kernels) fn x86(release: &str) -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        bytes[0x1fe..0x200].copy_from_slice(b"\x55\xaa");
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
        let text = format!("{release} (root@builder) #1 SMP\0");
        bytes[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
        bytes
    }

    /// The smallest module.
    pub(in crate::kinds::kernels) fn elf(kind: u8) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[16] = kind;
        bytes
    }

    #[test]
    fn an_image_for_x86_says_what_it_is() {
        let release = |text: &str| Ok(Image::Release(text.parse().unwrap()));
        assert_eq!(image(&x86("6.9.1-gentoo")), release("6.9.1-gentoo"));
        assert!(image(&x86("../../etc")).is_err());
        assert!(image(&x86("")).is_err());
        for cut in [0x1ff, 0x205, 0x20f, 0x300, 0x305] {
            assert!(image(&x86("6.9.1-gentoo")[..cut]).is_err(), "{cut:x}");
        }
        let mut nowhere = x86("6.9.1");
        nowhere[0x20e..0x210].copy_from_slice(&u16::MAX.to_le_bytes());
        assert!(image(&nowhere).is_err());
    }

    #[test]
    fn other_images_are_recognised_and_anything_else_is_refused() {
        let mut arm = vec![0; 64];
        arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
        assert_eq!(image(&arm), Ok(Image::Silent("an image for ARM of 64 bits")));
        assert_eq!(image(b"\x7fELF..."), Ok(Image::Silent("a linked kernel")));
        assert!(image(b"<html>404 Not Found</html>").is_err());
        assert!(image(b"").is_err());
    }

    #[test]
    fn a_configuration_says_its_version_and_whether_there_are_modules() {
        let head = "#\n# Automatically generated file; DO NOT EDIT.\n";
        let newer = format!("{head}# Linux/x86 6.9.1-gentoo Kernel Configuration\n#\nCONFIG_MODULES=y\n");
        let older = format!("{head}# Linux kernel version: 2.6.31\n# CONFIG_MODULES is not set\n");
        let version = |text: &str| text.parse::<Version>().unwrap();
        let expected = Config { version: version("6.9.1-gentoo"), has_modules: true };
        assert_eq!(config(newer.as_bytes()), Ok(expected));
        let expected = Config { version: version("2.6.31"), has_modules: false };
        assert_eq!(config(older.as_bytes()), Ok(expected));
        assert!(config(b"CONFIG_MODULES=y\n").is_err());
        assert!(config(b"\xff").is_err());
    }

    #[test]
    fn symbols_are_lines_of_three_words() {
        assert!(map(b"ffffffff81000000 T _stext\nffff").is_ok());
        assert!(map(b"ffffffffffffffff B The real System.map is in the package of symbols\n").is_ok());
        for wrong in ["", "T _stext", "ffffffff81000000 T", "xyz T a", "ffff TT a", "<html>"] {
            assert!(map(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn modules_are_relocatable_or_compressed() {
        assert_eq!(module(b"a.ko", &elf(1)), Ok(()));
        assert!(module(b"a.ko", &elf(2)).is_err());
        assert!(module(b"a.ko", b"\x7fELF").is_err());
        assert!(module(b"a.ko", b"#!/bin/sh").is_err());
        let mut big = elf(0);
        (big[5], big[16], big[17]) = (2, 0, 1);
        assert_eq!(module(b"a.ko", &big), Ok(()));
        assert_eq!(module(b"a.ko.xz", b"\xfd7zXZ\0..."), Ok(()));
        assert!(module(b"a.ko.xz", &elf(1)).is_err());
        assert!(is_module(b"a.ko.zst") && !is_module(b"modules.dep"));
    }
}
