//! One look at one upstream: questions are asked until it is known what there is.
//!
//! However a kind asks, and whatever an upstream answers, a look ends: the rounds, questions and bytes of one are bounded.

use std::collections::{BTreeMap, HashSet};

use futures::{StreamExt as _, stream};
use smart_sync_store::manifest::TreePath;
pub(super) use smart_sync_sync::kinds::follow::Wanted as Wants;
use smart_sync_sync::kinds::follow::{Answer, Look, Question};

use super::super::answer::Fault;
use super::asking::{Asking, Told};
use super::must::Must;
use super::whole::Whole;

/// The most rounds of questions.
const ROUNDS_MAX: usize = 64;
/// The most questions.
const QUESTIONS_MAX: usize = 20_000;
/// The most bytes that all answers together may have.
const BYTES_MAX: u64 = 256 << 20;
/// The most bytes of one answer.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Questions that are asked at once.
const AT_ONCE: usize = 4;

/// A file that is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offered {
    /// Where it is, below the URL.
    pub(super) place: String,
    /// What it has to be.
    pub(super) must: Must,
}

/// What there is upstream, of what is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Offering {
    /// The files, by their paths in the tree.
    pub(super) files: BTreeMap<TreePath, Offered>,
    /// How far upstream is with each thing.
    pub(super) marks: BTreeMap<String, u64>,
}

impl Offering {
    /// Adds a file, whose place upstream may come from upstream.
    pub(super) fn add(&mut self, path: TreePath, place: String, must: Must) -> Result<(), String> {
        check_place(&place)?;
        self.replace(path, place, must);
        Ok(())
    }

    /// Adds a file in place of what else is known of it.
    pub(super) fn replace(&mut self, path: TreePath, place: String, must: Must) {
        self.files.insert(path, Offered { place, must });
    }
}

/// Whoever knows what to ask.
pub(super) enum Looking<'a> {
    /// A kind.
    Kind(Box<dyn Look + 'a>),
    /// A directory that is followed as it is.
    Whole(Box<Whole<'a>>),
}

impl Looking<'_> {
    fn questions(&mut self) -> Vec<Question> {
        match self {
            Self::Kind(look) => look.questions(),
            Self::Whole(whole) => whole.questions(),
        }
    }

    fn answer(&mut self, question: &Question, answer: Answer<'_>) -> Result<(), String> {
        match self {
            Self::Kind(look) => look.answer(question, answer),
            Self::Whole(whole) => whole.answer(question, answer),
        }
    }

    fn offer(self) -> Result<Offering, String> {
        let offer = match self {
            Self::Kind(look) => look.offer()?,
            Self::Whole(whole) => return whole.offer(),
        };
        let mut offering = Offering { files: BTreeMap::new(), marks: offer.marks };
        for (path, offered) in offer.files {
            offering.add(path, offered.path, Must::of(offered.must_be))?;
        }
        Ok(offering)
    }
}

/// Looks at an upstream until everything is known.
pub(super) async fn look(mut looking: Looking<'_>, asking: &Asking<'_>) -> Result<Offering, Fault> {
    let (mut asked, mut bytes) = (HashSet::new(), 0);
    for _ in 0..ROUNDS_MAX {
        let questions = looking.questions();
        if questions.is_empty() {
            if let Err(error) = asking.documents.keep_only(&asked) {
                tracing::warn!(error = format!("{error:#}"), "forgetting what an upstream has answered");
            }
            return looking.offer().map_err(Fault::Wrong);
        }
        asked.extend(questions.iter().map(|question| path_of(question).to_owned()));
        if asked.len() > QUESTIONS_MAX {
            return Err(Fault::Wrong(format!(
                "finding out what there is takes more than {QUESTIONS_MAX} questions"
            )));
        }
        let questions: Vec<Question> = questions.into_iter().map(bounded).collect::<Result<_, _>>()?;
        let asks: Vec<_> = questions.iter().map(|question| asking.ask(question)).collect();
        let mut answers = stream::iter(asks).buffered(AT_ONCE);
        for question in &questions {
            let Some(told) = answers.next().await else { break };
            let told = told.map_err(|fault| about(path_of(question), fault))?;
            if let Told::Document(document) = &told {
                bytes += document.len() as u64;
            }
            if bytes > BYTES_MAX {
                return Err(Fault::Wrong(format!(
                    "what it says of what there is has more than {BYTES_MAX} bytes"
                )));
            }
            looking.answer(question, told.as_answer()).map_err(Fault::Wrong)?;
        }
    }
    Err(Fault::Wrong(format!("finding out what there is takes more than {ROUNDS_MAX} rounds of questions")))
}

fn path_of(question: &Question) -> &str {
    match question {
        Question::Listing { directory: path } | Question::Document { path, .. } => path,
    }
}

/// A question that may be asked: where it leads may come from upstream itself.
fn bounded(question: Question) -> Result<Question, Fault> {
    let path = path_of(&question);
    let is_root = matches!(question, Question::Listing { .. }) && path.is_empty();
    if !is_root {
        check_place(path).map_err(Fault::Wrong)?;
    }
    Ok(match question {
        Question::Document { path, bytes_max } => {
            Question::Document { path, bytes_max: bytes_max.min(ANSWER_BYTES_MAX) }
        }
        listing @ Question::Listing { .. } => listing,
    })
}

/// Refuses a path that leads out of what is below the URL, or that a program could take for something else.
fn check_place(path: &str) -> Result<(), String> {
    TreePath::new(path.as_bytes()).map_err(|error| format!("{}: {error}", path.escape_debug()))?;
    if path.chars().any(char::is_control) {
        return Err(format!("{}: there is a control character in the path", path.escape_debug()));
    }
    Ok(())
}

/// A fault that says what it is about.
fn about(path: &str, fault: Fault) -> Fault {
    match fault {
        // The upstream itself, whose URL stands in front.
        fault if path.is_empty() => fault,
        Fault::Down { reason, retry_after } => {
            Fault::Down { reason: format!("{path}: {reason}"), retry_after }
        }
        Fault::Wrong(reason) => Fault::Wrong(format!("{path}: {reason}")),
        Fault::Absent => Fault::Absent,
    }
}
