//! Dependencies: what a package needs, depending on its USE flags (PMS, section 8.2).
//!
//! An index says what a package needs as it was built. So what depends on USE flags is settled when the index is made,
//! and groups that have become pointless go. The result is what Portage makes of the same text, to the letter: clients
//! compare it.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::str::FromStr;

use super::atom::{Atom, is_flag};

/// How deep groups may be inside of each other.
const DEPTH_MAX: usize = 64;
/// The most bytes of dependencies.
const BYTES_MAX: usize = 1 << 20;
/// What stands for a choice of which nothing was left: no package is called so.
const EMPTY_CHOICE: &str = "__const__/empty-any-of";

/// What dependencies are made of: atoms, or words such as the names of licenses.
pub trait Token: FromStr<Err: Display> + Display + Clone {
    /// The same for a package that was built with these flags.
    #[must_use]
    fn evaluated(&self, flags: &HashSet<&str>) -> Self;
}

impl Token for Atom {
    fn evaluated(&self, flags: &HashSet<&str>) -> Self {
        Atom::evaluated(self, flags)
    }
}

/// A name of a license, a property or a restriction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word(String);

/// A text that is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no word")]
pub struct WordError(String);

impl FromStr for Word {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._/@:~*".contains(&byte));
        if is_word && !text.is_empty() {
            Ok(Self(text.to_owned()))
        } else {
            Err(WordError(text.chars().take(200).collect()))
        }
    }
}

impl Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Token for Word {
    fn evaluated(&self, _flags: &HashSet<&str>) -> Self {
        self.clone()
    }
}

/// One of several dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node<T> {
    /// One that stands for itself.
    One(T),
    /// `( … )`: all of them.
    All(Vec<Node<T>>),
    /// `|| ( … )`: any of them.
    Any(Vec<Node<T>>),
    /// `flag? ( … )` and `!flag? ( … )`: all of them, depending on a flag.
    Conditional {
        /// The flag.
        flag: String,
        /// Whether it has to be enabled for them to count.
        is_enabled: bool,
        /// The dependencies.
        nodes: Vec<Node<T>>,
    },
}

/// Dependencies, all of which are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependencies<T>(pub Vec<Node<T>>);

/// Why a text is no dependencies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("word {word}: {reason}")]
pub struct DependencyError {
    /// The word, from one on.
    word: usize,
    reason: String,
}

impl<T: Token> FromStr for Dependencies<T> {
    type Err = DependencyError;

    fn from_str(text: &str) -> Result<Self, DependencyError> {
        if text.len() > BYTES_MAX {
            return Err(DependencyError {
                word: 1,
                reason: format!("there are more than {BYTES_MAX} bytes"),
            });
        }
        let mut words = Words { words: text.split_whitespace(), count: 0 };
        let nodes = words.nodes(0)?;
        Ok(Self(nodes))
    }
}

struct Words<'a> {
    words: std::str::SplitWhitespace<'a>,
    count: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.count += 1;
        self.words.next()
    }

    fn refuse<T>(&self, reason: impl Into<String>) -> Result<T, DependencyError> {
        Err(DependencyError { word: self.count, reason: reason.into() })
    }

    /// What there is up to the end of the group, or of the text.
    fn nodes<T: Token>(&mut self, depth: usize) -> Result<Vec<Node<T>>, DependencyError> {
        let mut nodes = Vec::new();
        loop {
            let node = match self.next() {
                None if depth == 0 => return Ok(nodes),
                None => return self.refuse("a group is not closed"),
                Some(")") if depth == 0 => return self.refuse("there is no group to close"),
                Some(")") if nodes.is_empty() => return self.refuse("a group is empty"),
                Some(")") => return Ok(nodes),
                Some("(") => Node::All(self.group(depth)?),
                Some("||") => {
                    self.open("||")?;
                    Node::Any(self.group(depth)?)
                }
                Some(word) => match word.strip_suffix('?') {
                    Some(condition) => {
                        let flag = condition.strip_prefix('!').unwrap_or(condition);
                        if !is_flag(flag) {
                            return self.refuse(format!("{flag:?} is no USE flag"));
                        }
                        self.open(word)?;
                        let (flag, is_enabled) = (flag.to_owned(), flag.len() == condition.len());
                        Node::Conditional { flag, is_enabled, nodes: self.group(depth)? }
                    }
                    None => match word.parse::<T>() {
                        Ok(token) => Node::One(token),
                        Err(error) => return self.refuse(error.to_string()),
                    },
                },
            };
            nodes.push(node);
        }
    }

    fn open(&mut self, before: &str) -> Result<(), DependencyError> {
        match self.next() {
            Some("(") => Ok(()),
            _ => self.refuse(format!("a group has to follow {before}")),
        }
    }

    fn group<T: Token>(&mut self, depth: usize) -> Result<Vec<Node<T>>, DependencyError> {
        if depth >= DEPTH_MAX {
            return self.refuse(format!("there are more than {DEPTH_MAX} groups inside of each other"));
        }
        self.nodes(depth + 1)
    }
}

/// What is left of dependencies that are settled: these have no conditions.
enum Settled<T> {
    One(T),
    All(Vec<Settled<T>>),
    Any(Vec<Settled<T>>),
    /// A choice of which nothing was left.
    Nothing,
}

impl<T: Token> Dependencies<T> {
    /// The dependencies of a package that was built with these flags, as an index has them.
    pub fn settled(&self, flags: &HashSet<&str>) -> String {
        let mut settled = Vec::new();
        settle_all(&self.0, flags, false, &mut settled);
        let mut text = String::new();
        write_settled(&settled, &mut text);
        text
    }
}

/// The nodes that count, where all of them are meant. `is_choice` says that they are one of several to choose from: a
/// choice that is left with one group keeps that together then.
fn settle_all<T: Token>(
    nodes: &[Node<T>],
    flags: &HashSet<&str>,
    is_choice: bool,
    out: &mut Vec<Settled<T>>,
) {
    for node in nodes {
        match node {
            Node::One(token) => out.push(Settled::One(token.evaluated(flags))),
            Node::Conditional { flag, is_enabled, .. } if flags.contains(flag.as_str()) != *is_enabled => {}
            Node::All(nodes) | Node::Conditional { nodes, .. } => settle_all(nodes, flags, is_choice, out),
            Node::Any(nodes) => {
                let mut choices = settle_any(nodes, flags);
                match (choices.len(), choices.pop()) {
                    (1, Some(Settled::All(all))) if !is_choice => out.extend(all),
                    (1, Some(only)) => out.push(only),
                    (_, None) => out.push(Settled::Nothing),
                    (_, Some(last)) => {
                        choices.push(last);
                        out.push(Settled::Any(choices));
                    }
                }
            }
        }
    }
}

/// What there is to choose from. A choice inside of a choice is the same choice.
fn settle_any<T: Token>(nodes: &[Node<T>], flags: &HashSet<&str>) -> Vec<Settled<T>> {
    let mut choices = Vec::new();
    for node in nodes {
        match node {
            Node::One(token) => choices.push(Settled::One(token.evaluated(flags))),
            Node::Conditional { flag, is_enabled, .. } if flags.contains(flag.as_str()) != *is_enabled => {}
            Node::All(nodes) | Node::Conditional { nodes, .. } => {
                let mut all = Vec::new();
                settle_all(nodes, flags, true, &mut all);
                match (all.len(), all.pop()) {
                    (_, None) => {}
                    (1, Some(Settled::Any(inner))) => choices.extend(inner),
                    (1, Some(only)) => choices.push(only),
                    (_, Some(last)) => {
                        all.push(last);
                        choices.push(Settled::All(all));
                    }
                }
            }
            Node::Any(nodes) => match settle_any(nodes, flags) {
                // Portage keeps a group around it here, and only here.
                inner if inner.is_empty() => choices.push(Settled::All(vec![Settled::Nothing])),
                inner => choices.extend(inner),
            },
        }
    }
    choices
}

fn write_settled<T: Display>(settled: &[Settled<T>], text: &mut String) {
    use std::fmt::Write as _;

    for (at, node) in settled.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { " " });
        // Writing to a string does not fail.
        let _ = match node {
            Settled::One(token) => write!(text, "{token}"),
            Settled::Nothing => write!(text, "{EMPTY_CHOICE}"),
            Settled::All(nodes) | Settled::Any(nodes) => {
                text.push_str(if matches!(node, Settled::Any(_)) { "|| ( " } else { "( " });
                write_settled(nodes, text);
                write!(text, " )")
            }
        };
    }
}

impl<T: Display> Display for Dependencies<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_nodes(&self.0, f)
    }
}

fn write_nodes<T: Display>(nodes: &[Node<T>], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, node) in nodes.iter().enumerate() {
        f.write_str(if at == 0 { "" } else { " " })?;
        let nodes = match node {
            Node::One(token) => {
                write!(f, "{token}")?;
                continue;
            }
            Node::All(nodes) => nodes,
            Node::Any(nodes) => {
                f.write_str("|| ")?;
                nodes
            }
            Node::Conditional { flag, is_enabled, nodes } => {
                write!(f, "{}{flag}? ", if *is_enabled { "" } else { "!" })?;
                nodes
            }
        };
        f.write_str("( ")?;
        write_nodes(nodes, f)?;
        f.write_str(" )")?;
    }
    Ok(())
}
