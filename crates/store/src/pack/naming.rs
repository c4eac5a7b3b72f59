//! Naming the contents of a pack while its frames pass by.
//!
//! Frames come in order, a few at a time. A chunk that is a content of its own needs only the name that git gives it;
//! a row of chunks is hashed as the content that its recipe says it makes. The names are found side by side
//! on all processors, except within one content, where the two digests are.

use std::collections::HashMap;
use std::iter::Peekable;
use std::ops::Range;
use std::vec;

use rayon::prelude::*;

use super::rows::{Recipes, Row};
use super::{Frame, PackError};
use crate::content::BlobHasher;
use crate::id::{ContentId, ObjectId};
use crate::manifest::entry::Content;
use crate::object::{ObjectKey, ObjectKind, VerifiedObject};

/// The fewest contents that are worth another processor.
const TASKS_MIN: usize = 16;

/// A frame and what it decodes to.
pub(super) type DecodedFrame<'a> = (&'a Frame, &'a [u8]);

/// Names contents, one window of frames after the other.
pub(super) struct Naming {
    recipes: Recipes,
    rows: Peekable<vec::IntoIter<Row>>,
    borrowed: HashMap<ObjectId, VerifiedObject>,
    place: usize,
    open: Option<Box<OpenRow>>,
    named: Named,
}

/// What was found out.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Contents that lie in the pack as a whole, by all their names.
    pub(super) contents: Vec<Content>,
    /// Recipes that make the contents they name.
    pub(super) recipes: Vec<ObjectId>,
}

/// A part of a decoded frame: the frame's number in the window, and the bytes of it.
type Span = (usize, Range<usize>);

/// A part of a content in a row.
enum Part {
    Own(Span),
    Borrowed(ObjectId),
}

enum Task {
    Whole(ObjectId, Span),
    Row(Box<OpenRow>, Vec<Part>),
}

struct OpenRow {
    row: Row,
    whole: blake3::Hasher,
    blob: BlobHasher,
    /// The place of its next own chunk.
    next: usize,
    /// The number of borrowed chunks that were taken.
    borrowed: usize,
}

enum Outcome {
    Whole(Content),
    Row(Content, ObjectId),
    Open(Box<OpenRow>),
}

impl Naming {
    /// Begins before the first chunk of all frames to come. A row is passed over if a chunk that it borrows was not
    /// found, or has another length than the recipe says.
    pub(super) fn new(
        recipes: Recipes,
        mut rows: Vec<Row>,
        borrowed: HashMap<ObjectId, VerifiedObject>,
    ) -> Self {
        rows.retain(|row| {
            row.borrowed.iter().all(|needed| {
                borrowed.get(&needed.id).is_some_and(|found| found.bytes().len() == needed.len as usize)
            })
        });
        let rows = rows.into_iter().peekable();
        Self { recipes, rows, borrowed, place: 0, open: None, named: Named::default() }
    }

    /// Takes the next frames, whose objects have been verified.
    pub(super) fn take(&mut self, window: &[DecodedFrame<'_>]) -> Result<(), PackError> {
        let tasks = self.tasks(window);
        let borrowed = &self.borrowed;
        let outcomes: Vec<Outcome> = tasks
            .into_par_iter()
            .with_min_len(TASKS_MIN)
            .map(|task| task.run(window, borrowed))
            .collect::<Result<_, PackError>>()?;
        for outcome in outcomes {
            match outcome {
                Outcome::Whole(content) => self.named.contents.push(content),
                Outcome::Row(content, recipe) => {
                    self.named.contents.push(content);
                    self.named.recipes.push(recipe);
                }
                Outcome::Open(open) => self.open = Some(open),
            }
        }
        Ok(())
    }

    /// Ends after the last frame.
    pub(super) fn finish(self) -> Named {
        debug_assert!(self.open.is_none(), "a row lies in the pack as a whole");
        self.named
    }

    fn tasks(&mut self, window: &[DecodedFrame<'_>]) -> Vec<Task> {
        let mut tasks: Vec<Task> =
            self.open.take().map(|open| Task::Row(open, Vec::new())).into_iter().collect();
        for (number, (frame, _)) in window.iter().enumerate() {
            let mut start = 0;
            for object in &frame.objects {
                let range = start..start + object.len as usize;
                start = range.end;
                if object.key.kind == ObjectKind::Chunk {
                    self.assign(object.key.id, (number, range), &mut tasks);
                }
            }
        }
        tasks
    }

    fn assign(&mut self, chunk: ObjectId, span: Span, tasks: &mut Vec<Task>) {
        let place = self.place;
        self.place += 1;
        if let Some(Task::Row(open, parts)) = tasks.last_mut()
            && open.row.chunks.contains(&place)
        {
            open.take_chunk(span, parts);
        } else if let Some(row) = self.rows.next_if(|row| row.chunks.start == place) {
            let (mut open, mut parts) = (Box::new(OpenRow::new(row)), Vec::new());
            open.take_chunk(span, &mut parts);
            tasks.push(Task::Row(open, parts));
        } else if !self.recipes.is_piece(&chunk) {
            tasks.push(Task::Whole(chunk, span));
        }
    }
}

impl Task {
    fn run(
        self,
        window: &[DecodedFrame<'_>],
        borrowed: &HashMap<ObjectId, VerifiedObject>,
    ) -> Result<Outcome, PackError> {
        let bytes = |(frame, range): &Span| -> &[u8] { &window[*frame].1[range.clone()] };
        match self {
            Self::Whole(chunk, span) => {
                let bytes = bytes(&span);
                let size = bytes.len() as u64;
                let mut blob = BlobHasher::new(size);
                blob.update(bytes);
                let blob = blob.finish().expect("the size is that of the bytes");
                let id = ContentId::from_bytes(*chunk.as_bytes());
                Ok(Outcome::Whole(Content { size, blob, id }))
            }
            Self::Row(mut open, parts) => {
                let OpenRow { whole, blob, .. } = &mut *open;
                let parts: Vec<&[u8]> = parts
                    .iter()
                    .map(|part| match part {
                        Part::Own(span) => bytes(span),
                        Part::Borrowed(chunk) => &borrowed[chunk].bytes()[..],
                    })
                    .collect();
                rayon::join(
                    || {
                        for part in &parts {
                            whole.update(part);
                        }
                    },
                    || parts.iter().for_each(|part| blob.update(part)),
                );
                if open.next < open.row.chunks.end { Ok(Outcome::Open(open)) } else { open.finish() }
            }
        }
    }
}

impl OpenRow {
    fn new(row: Row) -> Self {
        let (blob, next) = (BlobHasher::new(row.size), row.chunks.start);
        Self { row, whole: blake3::Hasher::new(), blob, next, borrowed: 0 }
    }

    /// Takes the next own chunk, with the borrowed ones before it, and those after it if it is the last.
    fn take_chunk(&mut self, span: Span, parts: &mut Vec<Part>) {
        self.take_borrowed(parts);
        match (parts.last_mut(), span) {
            // Chunks that touch become one span: long spans are hashed faster.
            (Some(Part::Own((last, before))), (frame, range))
                if *last == frame && before.end == range.start =>
            {
                before.end = range.end;
            }
            (_, span) => parts.push(Part::Own(span)),
        }
        self.next += 1;
        if self.next == self.row.chunks.end {
            self.take_borrowed(parts);
        }
    }

    fn take_borrowed(&mut self, parts: &mut Vec<Part>) {
        while let Some(chunk) = self.row.borrowed.get(self.borrowed)
            && chunk.before == self.next
        {
            parts.push(Part::Borrowed(chunk.id));
            self.borrowed += 1;
        }
    }

    fn finish(self: Box<Self>) -> Result<Outcome, PackError> {
        let Self { row, whole, blob, .. } = *self;
        let id = ContentId::from_bytes(*whole.finalize().as_bytes());
        if id != row.content {
            let recipe = ObjectKey::recipe(row.recipe);
            return Err(PackError::WrongRecipe { recipe, content: row.content, found: id });
        }
        let blob = blob.finish().expect("the chunks of a row add up to the size in its recipe");
        Ok(Outcome::Row(Content { size: row.size, blob, id }, row.recipe))
    }
}
