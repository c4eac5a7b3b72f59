//! Which old contents a new one is compared with, and which are looked at together.

use std::collections::HashMap;

use super::expand::Item;
use super::stream::Slice;

/// A content from this size on is a part of its own.
const LARGE: u64 = 1 << 20;
/// Smaller ones are put together up to this size.
const BATCH: u64 = 16 << 20;
/// Contents beyond this are cut into sections.
const SECTION: u64 = 256 << 20;
/// What a section sees of the old content beyond its own place, on either side.
const MARGIN: u64 = 8 << 20;

/// Contents that are looked at together: old ones as the dictionary, new ones as the input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Part {
    pub(super) old: Vec<Slice>,
    pub(super) new: Vec<Slice>,
}

/// Divides the new contents into parts, each with the former selves of what it holds.
pub(super) fn split(old: &[Item], new: &[Item]) -> Vec<Part> {
    let former = former_selves(old, new);
    let mut parts = Vec::new();
    let mut batch = Part::default();
    let mut batch_size = 0;
    for (index, item) in new.iter().enumerate() {
        let partner = former[index];
        if item.size > SECTION {
            parts.extend(sections(index, item.size, partner.map(|partner| (partner, old[partner].size))));
            continue;
        }
        if item.size >= LARGE {
            parts.push(Part {
                old: partner.iter().map(|partner| Slice::whole(*partner, old)).collect(),
                new: vec![Slice::whole(index, new)],
            });
            continue;
        }
        if batch_size + item.size > BATCH {
            parts.push(std::mem::take(&mut batch));
            batch_size = 0;
        }
        batch_size += item.size;
        batch.new.push(Slice::whole(index, new));
        batch.old.extend(partner.map(|partner| Slice::whole(partner, old)));
    }
    if !batch.new.is_empty() {
        parts.push(batch);
    }
    parts
}

fn sections(index: usize, size: u64, partner: Option<(usize, u64)>) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut start = 0;
    while start < size {
        let length = SECTION.min(size - start);
        let old = partner.and_then(|(item, old_size)| {
            let from = start.saturating_sub(MARGIN).min(old_size);
            let to = (start + length + MARGIN).min(old_size);
            (to > from).then_some(Slice { item, start: from, size: to - from })
        });
        let new = vec![Slice { item: index, start, size: length }];
        parts.push(Part { old: old.into_iter().collect(), new });
        start += length;
    }
    parts
}

/// For each new content the old one of the same name, else the one whose name differs only in its numbers, if there is
/// exactly one.
fn former_selves(old: &[Item], new: &[Item]) -> Vec<Option<usize>> {
    let by_name: HashMap<&[u8], usize> =
        old.iter().enumerate().map(|(index, item)| (item.name.as_slice(), index)).collect();
    let mut by_shape: HashMap<Vec<u8>, Option<usize>> = HashMap::new();
    for (index, item) in old.iter().enumerate() {
        by_shape.entry(shape(&item.name)).and_modify(|found| *found = None).or_insert(Some(index));
    }
    new.iter()
        .map(|item| {
            by_name
                .get(item.name.as_slice())
                .copied()
                .or_else(|| by_shape.get(&shape(&item.name)).copied().flatten())
        })
        .collect()
}

/// A name with every number replaced by a zero.
fn shape(name: &[u8]) -> Vec<u8> {
    let mut shape = Vec::with_capacity(name.len());
    for byte in name {
        match (byte.is_ascii_digit(), shape.last()) {
            (true, Some(b'0')) => {}
            (true, _) => shape.push(b'0'),
            (false, _) => shape.push(*byte),
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, size: usize) -> Item {
        Item::of_bytes(name.as_bytes().to_vec(), vec![0; size])
    }

    #[test]
    fn a_name_with_another_version_is_the_same_file() {
        let old =
            [item("lib/6.1.0-46/a.ko", 1), item("lib/6.1.0-46/b.ko", 1), item("x1/c", 1), item("x2/c", 1)];
        let new = [item("lib/6.1.0-47/b.ko", 1), item("x2/c", 1), item("x3/c", 1), item("y", 1)];
        assert_eq!(former_selves(&old, &new), [Some(1), Some(3), None, None]);
    }

    #[test]
    fn large_contents_stand_alone_and_small_ones_together() {
        let old = [item("large", 2 << 20), item("small", 10)];
        let new = [item("large", 2 << 20), item("other", 10), item("small", 10)];
        let parts = split(&old, &new);
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].old[0].item, parts[0].new[0].item), (0, 0));
        assert_eq!(parts[1].new.len(), 2);
        assert_eq!(parts[1].old, [Slice { item: 1, start: 0, size: 10 }]);
    }

    #[test]
    fn a_huge_content_is_cut_with_margins() {
        let size = SECTION * 2 + 5;
        let parts = sections(3, size, Some((1, SECTION + MARGIN)));
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[0].old, [Slice { item: 1, start: 0, size: SECTION + MARGIN }]);
        assert_eq!(parts[1].old, [Slice { item: 1, start: SECTION - MARGIN, size: 2 * MARGIN }]);
        assert_eq!(parts[2].old, []);
        assert_eq!(parts[2].new, [Slice { item: 3, start: 2 * SECTION, size: 5 }]);
    }
}
