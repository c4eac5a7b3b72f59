//! Release media of an upstream that is followed.
//!
//! The newest build of each series is brought: what its text names, with everything that lies beside it. What is said of
//! a medium before it comes is all that it has to be, so that nothing else is fetched for it. Earlier builds stay as long
//! as they are published.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use smart_sync_store::manifest::TreePath;

use super::digests::{self, FileDigests};
use super::latest::{Latest, Named};
use super::name::{Beside, Medium, Series, TextPlace, is_name, text_name};
use super::signed::{SignedText, TEXT_BYTES_MAX};
use crate::kinds::follow::{Answer, Follow, Look, MustBe, Offer, Offered, Question, Wanted};
use crate::kinds::pull::Expected;
use crate::openpgp::{KeyRing, SIGNATURES_BYTES_MAX, SignatureError, Signatures};
use crate::time::UnixTime;

/// The most architectures of an upstream.
const ARCHITECTURES_MAX: usize = 64;
/// The most series of one of them.
const SERIES_MAX: usize = 500;
/// The most bytes of a list of the files of a medium.
const CONTENTS_BYTES_MAX: u64 = 256 << 20;
/// How the most usual series are called: what stands before the architecture.
const STAGE: &str = "stage3";

/// How release media are followed.
#[derive(Debug)]
pub(super) struct FollowStages;

impl Follow for FollowStages {
    fn look<'a>(&self, wanted: Wanted<'a>) -> Result<Box<dyn Look + 'a>, String> {
        let names = wanted.architectures.iter().chain(wanted.variants);
        if let Some(wrong) = names.clone().find(|name| !is_name(name)) {
            return Err(format!("{wrong:?} is no architecture or variant of release media"));
        }
        let architectures: BTreeSet<String> = wanted.architectures.iter().cloned().collect();
        if architectures.len() > ARCHITECTURES_MAX || wanted.variants.len() > SERIES_MAX {
            return Err(format!(
                "there are more than {ARCHITECTURES_MAX} architectures or {SERIES_MAX} variants"
            ));
        }
        let mut look = StagesLook {
            variants: wanted.variants.iter().cloned().collect(),
            ring: wanted.key_ring,
            now: wanted.now,
            asked: BTreeMap::new(),
            next: BTreeMap::new(),
            unmet: wanted.variants.iter().chain(wanted.architectures).cloned().collect(),
            texts: BTreeMap::new(),
            media: BTreeMap::new(),
        };
        if architectures.is_empty() {
            look.ask(listing(String::new()), Purpose::Top);
        }
        for architecture in architectures {
            look.begin(architecture);
        }
        Ok(Box::new(look))
    }
}

/// Why something is read.
#[derive(Debug, Clone)]
enum Purpose {
    /// Which architectures there are.
    Top,
    /// Which series one has.
    Architecture(String),
    /// Which build of a series is the newest. Where there is no text of the first name, the second one is asked for.
    Text { wanted: Option<Asked>, place: TextPlace },
    /// What lies beside a medium.
    Beside { medium: Medium, beside: Beside },
}

/// What somebody has named of an architecture.
#[derive(Debug, Clone)]
struct Asked {
    architecture: String,
    variant: String,
    /// Whether there is no stage that is called so.
    is_second: bool,
}

/// A medium that is brought.
struct Brought {
    size: u64,
    /// Whether it is known to be wanted, or just stands in a list.
    is_named: bool,
    beside: BTreeMap<Beside, Box<[u8]>>,
    digests: BTreeMap<String, FileDigests>,
}

struct StagesLook<'w> {
    variants: BTreeSet<String>,
    ring: Option<&'w KeyRing>,
    now: UnixTime,
    /// What was asked and is not answered.
    asked: BTreeMap<Question, Purpose>,
    next: BTreeMap<Question, Purpose>,
    /// The architectures and variants that upstream has shown nothing of so far.
    unmet: BTreeSet<String>,
    texts: BTreeMap<TextPlace, (Latest, Box<[u8]>)>,
    media: BTreeMap<Medium, Brought>,
}

impl StagesLook<'_> {
    fn ask(&mut self, question: Question, purpose: Purpose) {
        self.next.insert(question, purpose);
    }

    /// Begins with an architecture.
    fn begin(&mut self, architecture: String) {
        if self.variants.is_empty() {
            let directory = area(&architecture);
            self.ask(listing(directory), Purpose::Architecture(architecture));
            return;
        }
        for variant in self.variants.clone() {
            self.ask_for(Asked { architecture: architecture.clone(), variant, is_second: false });
        }
    }

    /// Asks for the text of a variant: of the stages for an architecture that is called so, or of what has that name.
    fn ask_for(&mut self, wanted: Asked) {
        let Asked { architecture, variant, is_second } = &wanted;
        let name = if *is_second { variant.clone() } else { format!("{STAGE}-{architecture}-{variant}") };
        let series = Series { area: area(architecture), name };
        self.ask_for_text(TextPlace { series, is_current: false }, Some(wanted));
    }

    fn ask_for_text(&mut self, place: TextPlace, wanted: Option<Asked>) {
        let Ok(path) = place.path() else { return };
        self.ask(document(&path, TEXT_BYTES_MAX), Purpose::Text { wanted, place });
    }

    /// Takes in which architectures there are.
    fn top(&mut self, answer: Answer<'_>) -> Result<(), String> {
        let Answer::Listing(names) = answer else { return Err("upstream shows no directory".to_owned()) };
        let architectures: Vec<String> = (names.iter())
            .filter(|listed| listed.is_directory && is_name(&listed.name))
            .map(|listed| listed.name.clone())
            .collect();
        if architectures.len() > ARCHITECTURES_MAX {
            return Err(format!("upstream has more than {ARCHITECTURES_MAX} directories"));
        }
        for architecture in architectures {
            self.begin(architecture);
        }
        Ok(())
    }

    /// Takes in which series an architecture has. A directory without any is none of an architecture.
    fn architecture(&mut self, architecture: &str, answer: Answer<'_>) -> Result<(), String> {
        let Answer::Listing(names) = answer else { return Ok(()) };
        let series = names.iter().filter(|listed| !listed.is_directory).filter_map(|l| text_name(&l.name));
        let series: Vec<Series> =
            series.map(|name| Series { area: area(architecture), name: name.to_owned() }).collect();
        if series.len() > SERIES_MAX {
            return Err(format!("{architecture} has more than {SERIES_MAX} series of builds"));
        }
        if !series.is_empty() {
            self.unmet.remove(architecture);
        }
        for series in series {
            self.ask_for_text(TextPlace { series, is_current: false }, None);
        }
        Ok(())
    }

    /// Takes in which build is the newest, and asks for what lies beside its media.
    fn text(&mut self, wanted: Option<Asked>, place: TextPlace, answer: Answer<'_>) -> Result<(), String> {
        let Answer::Document(bytes) = answer else {
            if let Some(wanted) = wanted.filter(|wanted| !wanted.is_second) {
                self.ask_for(Asked { is_second: true, ..wanted });
            }
            return Ok(());
        };
        let text = match self.judged(bytes) {
            Ok(text) => text,
            // What nobody has asked for by its name may lie there unsigned, from the time before texts were signed.
            Err(SignatureError::NotSigned) if wanted.is_none() => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let latest = Latest::parse(&text).map_err(|error| error.to_string())?;
        if let Some(wanted) = &wanted {
            self.unmet.remove(&wanted.architecture);
            self.unmet.remove(&wanted.variant);
        }
        if !place.is_current && !place.series.is_overview() {
            for named in &latest.media {
                self.begin_medium(&place, named, wanted.is_some())?;
            }
            let current = TextPlace { series: place.series.clone(), is_current: true };
            self.ask_for_text(current, None);
        }
        self.texts.insert(place, (latest, bytes.into()));
        Ok(())
    }

    fn begin_medium(&mut self, place: &TextPlace, named: &Named, is_named: bool) -> Result<(), String> {
        let file = &named.name.file;
        if !named.has_directory || named.name.name != place.series.name {
            return Err(format!("it names {file}, which is not of its builds"));
        }
        let medium = Medium { area: place.series.area.clone(), name: named.name.clone() };
        for beside in [Beside::Digests, Beside::Signature, Beside::Sha256] {
            let path = medium.path(beside).map_err(|error| error.to_string())?;
            let most = if beside == Beside::Signature { SIGNATURES_BYTES_MAX as u64 } else { TEXT_BYTES_MAX };
            self.ask(document(&path, most), Purpose::Beside { medium: medium.clone(), beside });
        }
        let brought =
            Brought { size: named.size, is_named, beside: BTreeMap::new(), digests: BTreeMap::new() };
        self.media.insert(medium, brought);
        Ok(())
    }

    /// Takes in what lies beside a medium.
    fn beside(&mut self, medium: &Medium, beside: Beside, answer: Answer<'_>) -> Result<(), String> {
        let Answer::Document(bytes) = answer else { return Ok(()) };
        let Some(brought) = self.media.get(medium) else { return Ok(()) };
        let mut said = BTreeMap::new();
        if beside == Beside::Signature {
            Signatures::detached(bytes).map_err(|error| error.to_string())?;
        } else {
            let text = match self.judged(bytes) {
                Ok(text) => text,
                Err(SignatureError::NotSigned) if !brought.is_named => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
            if beside == Beside::Digests {
                said = digests::parse(&text, None).map_err(|error| error.to_string())?;
            }
        }
        if let Some(brought) = self.media.get_mut(medium) {
            brought.beside.insert(beside, bytes.into());
            brought.digests.extend(said);
        }
        Ok(())
    }

    /// The text that is signed, where there are keys that may have signed it.
    fn judged(&self, bytes: &[u8]) -> Result<String, SignatureError> {
        let text = SignedText::read(bytes)?;
        text.judge(self.ring, self.now)?;
        Ok(text.text)
    }
}

impl Look for StagesLook<'_> {
    fn questions(&mut self) -> Vec<Question> {
        self.asked = mem::take(&mut self.next);
        self.asked.keys().cloned().collect()
    }

    fn answer(&mut self, question: &Question, answer: Answer<'_>) -> Result<(), String> {
        let Some(purpose) = self.asked.remove(question) else { return Ok(()) };
        let taken = match purpose {
            Purpose::Top => self.top(answer),
            Purpose::Architecture(architecture) => self.architecture(&architecture, answer),
            Purpose::Text { wanted, place } => self.text(wanted, place, answer),
            Purpose::Beside { medium, beside } => self.beside(&medium, beside, answer),
        };
        let (Question::Listing { directory: path } | Question::Document { path, .. }) = question;
        taken.map_err(|reason| format!("{path}: {reason}"))
    }

    fn offer(self: Box<Self>) -> Result<Offer, String> {
        if let Some(unmet) = self.unmet.first() {
            return Err(format!("upstream has no release media of {unmet:?}"));
        }
        let mut offer = Offer::default();
        let mut dead = BTreeSet::new();
        for (medium, brought) in &self.media {
            let is_signed = self.ring.is_none() || brought.beside.contains_key(&Beside::Signature);
            match expected(medium, brought).filter(|_| is_signed) {
                Some(expected) => offer_medium(medium, brought, expected, &mut offer)?,
                // Texts outlive what they name where builds of a series have come to an end.
                None if !brought.is_named => {
                    dead.insert(medium.series());
                }
                None => {
                    let file = &medium.name.file;
                    return Err(format!(
                        "{file} has no digests or no signature beside it, or is not there yet"
                    ));
                }
            }
        }
        for (place, (latest, bytes)) in self.texts {
            if dead.contains(&place.series) {
                continue;
            }
            if !place.is_current && !place.series.is_overview() {
                let Series { area, name } = &place.series;
                let architecture = area.split('/').next().unwrap_or_default();
                offer.marks.insert(format!("{architecture}/{name}"), latest.time);
            }
            let path = place.path().map_err(|error| error.to_string())?;
            put(&mut offer, path, MustBe::Read(bytes));
        }
        if offer.marks.is_empty() {
            return Err("upstream has no release media".to_owned());
        }
        Ok(offer)
    }
}

/// What a medium has to be, if that is said.
fn expected(medium: &Medium, brought: &Brought) -> Option<Expected> {
    let said = brought.digests.get(&medium.name.file)?;
    Some(Expected { size: brought.size, blake2b: said.blake2b?, sha512: said.sha512? })
}

fn offer_medium(
    medium: &Medium,
    brought: &Brought,
    expected: Expected,
    offer: &mut Offer,
) -> Result<(), String> {
    let path = |beside: Beside| medium.path(beside).map_err(|error| error.to_string());
    put(offer, path(Beside::Itself)?, MustBe::This(expected));
    for (beside, bytes) in &brought.beside {
        put(offer, path(*beside)?, MustBe::Read(bytes.clone()));
    }
    for beside in Beside::ALL.into_iter().filter(|beside| matches!(beside, Beside::Contents(_))) {
        if brought.digests.contains_key(&format!("{}{}", medium.name.file, beside.suffix())) {
            put(offer, path(beside)?, MustBe::AtMost(CONTENTS_BYTES_MAX));
        }
    }
    Ok(())
}

fn put(offer: &mut Offer, path: TreePath, must_be: MustBe) {
    let offered = Offered { path: path.to_string(), must_be };
    offer.files.insert(path, offered);
}

fn area(architecture: &str) -> String {
    format!("{architecture}/autobuilds")
}

const fn listing(directory: String) -> Question {
    Question::Listing { directory }
}

fn document(path: &TreePath, bytes_max: u64) -> Question {
    Question::Document { path: path.to_string(), bytes_max }
}
