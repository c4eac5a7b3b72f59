//! What a target lacks, found by its content.

use smart_sync_store::id::ContentId;
use smart_sync_sync::apply::plan::Need;

/// Needs by the content that each is for.
pub struct Needs<'n>(Vec<(u64, &'n Need)>);

impl<'n> Needs<'n> {
    /// Needs of different contents.
    pub fn new(needs: &[&'n Need]) -> Self {
        let mut sorted: Vec<_> = needs.iter().map(|need| (beginning(need.content.id), *need)).collect();
        sorted.sort_unstable_by_key(|(beginning, _)| *beginning);
        Self(sorted)
    }

    /// The need for a content.
    pub fn get(&self, content: ContentId) -> Option<&'n Need> {
        let wanted = beginning(content);
        let first = self.0.partition_point(|(beginning, _)| *beginning < wanted);
        let same = self.0[first..].iter().take_while(|(beginning, _)| *beginning == wanted);
        same.map(|(_, need)| *need).find(|need| need.content.id == content)
    }
}

/// The first bytes of an id: two of one target that begin alike are hardly met.
fn beginning(id: ContentId) -> u64 {
    u64::from_be_bytes(id.as_bytes()[..8].try_into().expect("an id has 32 bytes"))
}
