//! What was found out about single files and holds for a while: nobody has one, or an upstream gives something else.

use std::collections::HashMap;

/// The most files that something is remembered of.
const MARKS_MAX: usize = 10_000;
/// How long a file is not asked for again that no upstream has, in seconds.
const ABSENT_SECONDS: u64 = 300;
/// How long an upstream is not asked again for a file of which it gave something else, in seconds.
const WRONG_SECONDS: u64 = 3600;

/// Something about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mark {
    /// No upstream has it.
    Absent,
    /// The upstream of this number gives something else.
    Wrong(usize),
    /// Parts of several upstreams did not fit together.
    Mixed,
}

/// The marks of files, by their SHA-512.
#[derive(Debug, Default)]
pub(super) struct Marks {
    until: HashMap<([u8; 64], Mark), u64>,
}

impl Marks {
    /// Notes something.
    pub(super) fn note(&mut self, file: &[u8; 64], mark: Mark, now: u64) {
        if self.until.len() >= MARKS_MAX {
            self.until.retain(|_, until| *until > now);
            if self.until.len() >= MARKS_MAX {
                self.until.clear();
            }
        }
        let seconds = if mark == Mark::Absent { ABSENT_SECONDS } else { WRONG_SECONDS };
        self.until.insert((*file, mark), now.saturating_add(seconds));
    }

    /// Whether it was noted and still holds.
    pub(super) fn holds(&self, file: &[u8; 64], mark: Mark, now: u64) -> bool {
        self.until.get(&(*file, mark)).is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_hold_for_a_while_and_are_never_too_many() {
        let mut marks = Marks::default();
        marks.note(&[1; 64], Mark::Absent, 100);
        marks.note(&[1; 64], Mark::Wrong(0), 100);
        assert!(marks.holds(&[1; 64], Mark::Absent, 399) && !marks.holds(&[1; 64], Mark::Absent, 400));
        assert!(marks.holds(&[1; 64], Mark::Wrong(0), 400) && !marks.holds(&[1; 64], Mark::Wrong(1), 400));
        for number in 0..30_000u32 {
            let mut file = [0; 64];
            file[..4].copy_from_slice(&number.to_be_bytes());
            marks.note(&file, Mark::Mixed, 500);
            assert!(marks.holds(&file, Mark::Mixed, 500) && marks.until.len() <= MARKS_MAX);
        }
    }
}
