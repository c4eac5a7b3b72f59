//! Numbers of things, as people read them.

use std::fmt;

/// So many of something: `1 pack`, `2 packs`.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    number: u64,
    one: &'a str,
    many: &'a str,
}

/// So many of something, in words for one and for any other number.
pub const fn counted<'a>(number: u64, one: &'a str, many: &'a str) -> Counted<'a> {
    Counted { number, one, many }
}

impl fmt::Display for Counted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, if self.number == 1 { self.one } else { self.many })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        let check =
            |number, expected: &str| assert_eq!(counted(number, "entry", "entries").to_string(), expected);
        check(0, "0 entries");
        check(1, "1 entry");
        check(2, "2 entries");
    }
}
