//! What a power cut would take back, computed from the system calls that a program made.
//!
//! The one decision: the file system here keeps only its promises. A name that was made, moved or removed is lost until its
//! directory is synced, and bytes that were written are lost until their file is; real ones are kinder, which is why
//! a missing sync is not noticed by cutting the power a few times. The calls come from strace with `-y`, which says
//! for each descriptor what it leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The calls that a [`Disk`] has to see.
pub const CALLS: &[&str] = &[
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mkdir",
    "mkdirat",
    "unlink",
    "unlinkat",
    "rmdir",
    "open",
    "openat",
    "fsync",
    "fdatasync",
    "syncfs",
    "write",
    "writev",
    "pwrite64",
    "ftruncate",
    "sendto",
];

/// A call that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A name was made.
    Made(String),
    /// A name was given to what had another.
    Renamed(String, String),
    /// A name was removed.
    Removed(String),
    /// Bytes of a file were written or cut off.
    Written(String),
    /// A file, or the names in a directory, were made durable.
    Synced(String),
    /// Everything below a directory was made durable, and what else is on its file system.
    SyncedAll(String),
    /// Bytes were sent to whoever waits: the descriptor, and their beginning.
    Said(String, String),
}

/// The calls of a trace that succeeded, in the order in which they ended.
pub fn events(trace: &str) -> Vec<Event> {
    let mut unfinished: BTreeMap<&str, String> = BTreeMap::new();
    let mut events = Vec::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, begun.to_owned());
            continue;
        }
        let resumed = rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>"));
        let call = match resumed {
            Some((_, end)) => unfinished.remove(thread).unwrap_or_default() + end,
            None => rest.to_owned(),
        };
        events.extend(event(&call));
    }
    events
}

/// What a whole line, `CALL(ARGUMENTS) = RESULT`, did.
fn event(line: &str) -> Option<Event> {
    let (call, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    if result.starts_with(['-', '?']) {
        return None;
    }
    let descriptor = || Some(arguments.split_once('<')?.1.split_once('>')?.0.to_owned());
    let mut names = names(arguments).into_iter();
    Some(match call {
        "rename" | "renameat" | "renameat2" => Event::Renamed(names.next()?, names.next()?),
        // The first is what the link leads to.
        "link" | "linkat" | "symlink" | "symlinkat" => Event::Made(names.nth(1)?),
        "mkdir" | "mkdirat" => Event::Made(names.next()?),
        "open" | "openat" if arguments.contains("O_CREAT") => Event::Made(names.next()?),
        "unlink" | "unlinkat" | "rmdir" => Event::Removed(names.next()?),
        "fsync" | "fdatasync" => Event::Synced(descriptor()?),
        "syncfs" => Event::SyncedAll(descriptor()?),
        "write" | "writev" | "pwrite64" | "sendto" | "ftruncate" => {
            let to = descriptor()?;
            if to.starts_with('/') && !arguments.starts_with("1<") {
                Event::Written(to)
            } else {
                Event::Said(to, arguments.split_once('"')?.1.to_owned())
            }
        }
        _ => return None,
    })
}

/// The paths in the arguments of a call: each quoted text, below the directory of the descriptor before it.
fn names(arguments: &str) -> Vec<String> {
    let (mut names, mut directory, mut rest) = (Vec::new(), "", arguments);
    while let Some(at) = rest.find(['<', '"']) {
        let is_descriptor = rest[at..].starts_with('<');
        let after = &rest[at + 1..];
        let Some(end) = after.find(if is_descriptor { '>' } else { '"' }) else { break };
        if is_descriptor {
            directory = &after[..end];
        } else {
            let name = &after[..end];
            names.push(if name.starts_with('/') { name.to_owned() } else { format!("{directory}/{name}") });
        }
        rest = &after[end + 1..];
    }
    names
}

/// What is not durable yet, below a directory.
#[derive(Debug)]
pub struct Disk {
    root: String,
    /// What may be lost: it is made again, or is nobody's.
    is_expendable: fn(&str) -> bool,
    names: BTreeSet<String>,
    bytes: BTreeSet<String>,
}

impl Disk {
    /// A disk on which everything is durable.
    pub fn new(root: &Path, is_expendable: fn(&str) -> bool) -> Self {
        let root = format!("{}/", root.to_str().expect("paths of the tests are text"));
        Self { root, is_expendable, names: BTreeSet::new(), bytes: BTreeSet::new() }
    }

    /// Does what a call did.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Made(path) => self.touch(path),
            Event::Renamed(from, to) => {
                // What had lost its name before anybody was promised it is a temporary file that is gone.
                if !self.names.remove(from) {
                    self.touch(from);
                }
                self.touch(to);
                if self.bytes.remove(from) {
                    self.bytes.insert(to.clone());
                }
            }
            Event::Removed(path) => {
                self.bytes.remove(path);
                // What was removed from a directory goes with that.
                self.names.retain(|name| parent(name) != path);
                if !self.names.remove(path) {
                    self.touch(path);
                }
            }
            Event::Written(path) => {
                if path.starts_with(&self.root) {
                    self.bytes.insert(path.clone());
                }
            }
            Event::Synced(path) => {
                self.bytes.remove(path);
                self.names.retain(|name| parent(name) != path);
            }
            Event::SyncedAll(directory) => {
                // Other directories may be on other file systems elsewhere.
                let is_elsewhere = |path: &String| !Path::new(path).starts_with(directory);
                self.bytes.retain(is_elsewhere);
                self.names.retain(is_elsewhere);
            }
            Event::Said(..) => {}
        }
    }

    /// What a power cut would take back now: names and bytes.
    pub fn lost(&self) -> Vec<String> {
        let of = |paths: &BTreeSet<String>, what: &str| -> Vec<String> {
            // A temporary file is nothing until it gets its name, and its bytes come with it.
            let kept = paths.iter().map(|path| self.shown(path)).filter(|path| !(self.is_expendable)(path));
            kept.map(|path| format!("{what} {path}")).collect()
        };
        [of(&self.names, "the name"), of(&self.bytes, "the bytes of")].concat()
    }

    /// Whether a power cut would take back bytes of a file, temporary or not.
    pub fn loses_bytes(&self, path: &str) -> bool {
        self.bytes.contains(path)
    }

    /// A path below the directory, without that.
    pub fn shown<'p>(&self, path: &'p str) -> &'p str {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    fn touch(&mut self, path: &str) {
        if path.starts_with(&self.root) {
            self.names.insert(path.to_owned());
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would be lost after each line that says something.
    #[track_caller]
    fn check(trace: &str, expected: &[&str]) {
        let mut disk = Disk::new(Path::new("/r"), |path| path.contains(".tmp"));
        for event in events(trace) {
            disk.apply(&event);
        }
        assert_eq!(disk.lost(), expected, "{trace}");
    }

    #[test]
    fn a_name_is_durable_when_its_directory_is() {
        let renamed = "7 rename(\"/r/d/a.tmp\", \"/r/d/a\") = 0\n";
        check(renamed, &["the name d/a"]);
        check(&format!("{renamed}7 fsync(3</r/d/a>) = 0\n"), &["the name d/a"]);
        check(&format!("{renamed}7 fsync(3</r>) = 0\n"), &["the name d/a"]);
        check(&format!("{renamed}7 fsync(3</r/d>) = -1 EIO (Input/output error)\n"), &["the name d/a"]);
        check(&format!("{renamed}7 fsync(3</r/d>) = 0\n"), &[]);
        check(&format!("{renamed}7 syncfs(3</r>) = 0\n"), &[]);
        check(&format!("{renamed}7 syncfs(3</r/other>) = 0\n"), &["the name d/a"]);
        check("7 rename(\"/r/d/a\", \"/r/d/b\") = -1 ENOENT (No such file or directory)\n", &[]);
    }

    #[test]
    fn bytes_keep_their_file_when_it_gets_another_name() {
        let written = "7  write(3</r/a.tmp>, \"x\", 1) = 1\n";
        check(written, &[]);
        let moved = format!("{written}7 renameat(4</r>, \"a.tmp\", 5</r/d>, \"a\") = 0\n");
        check(&moved, &["the name d/a", "the bytes of d/a"]);
        check(&format!("{moved}7 fsync(3</r/d/a>) = 0\n"), &["the name d/a"]);
    }

    #[test]
    fn what_is_made_and_removed_in_between_is_nothing() {
        let made = "7 openat(3</r>, \"a\", O_RDWR|O_CREAT|O_EXCL, 0600) = 4</r/a>\n";
        check(made, &["the name a"]);
        check(&format!("{made}7 unlinkat(3</r>, \"a\", 0) = 0\n"), &[]);
        check("7 unlinkat(3</r>, \"old\", 0) = 0\n", &["the name old"]);
        check("7 unlinkat(3</r/d>, \"a\", 0) = 0\n7 rmdir(\"/r/d\") = 0\n", &["the name d"]);
        check("7 symlinkat(\"to\", 3</r/d>, \"link\") = 0\n", &["the name d/link"]);
    }

    #[test]
    fn a_call_counts_when_it_has_ended() {
        let begun = "7 mkdirat(3</r>, \"a\", 0700) = 0\n7 fsync(3</r> <unfinished ...>\n8 close(5) = 0\n";
        check(begun, &["the name a"]);
        check(&format!("{begun}7 <... fsync resumed>)             = 0\n"), &[]);
        let said = events("7 write(1<pipe:[5]>, \"done\\n\", 5) = 5\n7 write(1</dev/null>, \"x\", 1) = 1\n");
        let expected = [("pipe:[5]", "done\\n\", 5)"), ("/dev/null", "x\", 1)")];
        assert_eq!(said, expected.map(|(to, text)| Event::Said(to.to_owned(), text.to_owned())));
    }
}
