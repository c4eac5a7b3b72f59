//! `host.cfg` of a backend: lines `key:value`, two spaces deeper for what belongs to the line above, and `-item` or
//! `-item:value` for lists. What of it a profile can say is proposed; nothing of it is published.

use smart_sync_sync::name::Channel;

/// The largest such file.
pub(crate) const BYTES_MAX: u64 = 256 << 10;
/// The most lines of one.
const LINES_MAX: usize = 10_000;
/// How deep lines may lie.
const DEPTH_MAX: usize = 16;

/// A line, with those that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) is_item: bool,
    pub(crate) below: Vec<Node>,
}

/// Reads such a file.
pub(crate) fn parse(text: &str) -> Result<Vec<Node>, String> {
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if number > LINES_MAX {
            return Err(format!("it has more than {LINES_MAX} lines"));
        }
        let rest = line.trim_start_matches(' ');
        if rest.trim().is_empty() || rest.starts_with('#') {
            continue;
        }
        let spaces = line.len() - rest.len();
        if spaces % 2 != 0 || rest.starts_with('\t') || spaces / 2 > DEPTH_MAX {
            return Err(format!("line {number}: it is not moved in by two spaces for each step"));
        }
        let (is_item, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, rest),
        };
        let (key, value) = match rest.split_once(':') {
            Some((key, value)) => (key, value),
            None if is_item => (rest, ""),
            None => return Err(format!("line {number}: it is neither KEY:VALUE nor -ITEM")),
        };
        let node = Node {
            line: number,
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
            is_item,
            below: Vec::new(),
        };
        lines.push((spaces / 2, node));
    }
    let mut lines = lines.into_iter().peekable();
    let nodes = nodes(&mut lines, 0);
    match lines.next() {
        Some((_, node)) => {
            Err(format!("line {}: it is moved in further than what it could belong to", node.line))
        }
        None => Ok(nodes),
    }
}

/// The lines of one depth, as long as they come.
fn nodes(lines: &mut std::iter::Peekable<std::vec::IntoIter<(usize, Node)>>, depth: usize) -> Vec<Node> {
    let mut found: Vec<Node> = Vec::new();
    while let Some((at, _)) = lines.peek() {
        match found.last_mut() {
            _ if *at == depth => found.extend(lines.next().map(|(_, node)| node)),
            // Items of a list may stand as deep as what they belong to, or one step deeper.
            Some(last) if *at == depth + 1 && last.below.is_empty() => last.below = nodes(lines, depth + 1),
            _ => break,
        }
    }
    found
}

/// What is proposed of one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// Lines of a `profile.toml`.
    pub(crate) profile: String,
    /// Lines that no profile says.
    pub(crate) not_understood: Vec<usize>,
}

/// Says as a profile what a host was said to follow, as far as it is among these channels.
pub(crate) fn propose(nodes: &[Node], channels: &[Channel]) -> Proposal {
    let mut proposal = Proposal::default();
    let mut at = 0;
    while let Some(node) = nodes.get(at) {
        at += 1;
        let beside = nodes[at..].iter().take_while(|next| next.is_item && !node.is_item).count();
        let items: Vec<&Node> = node.below.iter().chain(&nodes[at..at + beside]).collect();
        at += beside;
        let names =
            std::iter::once(node).filter(|node| !node.value.is_empty()).map(|node| (&*node.value, node.line));
        let names: Vec<(&str, usize)> =
            names.chain(items.iter().map(|item| (&*item.key, item.line))).collect();
        let place = place_of(&node.key);
        if names.is_empty() || place.is_none() {
            proposal.not_understood.push(node.line);
            proposal.not_understood.extend(items.iter().map(|item| item.line));
            continue;
        }
        for (name, line) in names {
            let target = place.and_then(|place| target(place, name, channels));
            match target {
                Some(text) => proposal.profile.push_str(&text),
                None => proposal.not_understood.push(line),
            }
        }
    }
    proposal
}

/// What a key of such a file says what of is followed.
#[derive(Debug, Clone, Copy)]
enum Place {
    Repositories,
    Kernels,
    PatchFiles,
}

fn place_of(key: &str) -> Option<Place> {
    match key {
        "repos" | "repositories" | "overlays" => Some(Place::Repositories),
        "kernel" | "kernels" => Some(Place::Kernels),
        "patchfiles" => Some(Place::PatchFiles),
        _ => None,
    }
}

fn target(place: Place, name: &str, channels: &[Channel]) -> Option<String> {
    let (end, rest) = match place {
        Place::Repositories => (format!("repos/{name}"), ""),
        Place::Kernels => ("kernels".to_owned(), "ref = \"current\"\n"),
        Place::PatchFiles => ("patchfiles".to_owned(), "kind = \"overlay\"\n"),
    };
    let channel = channels.iter().find(|channel| {
        let channel = channel.as_str();
        channel == end || channel.strip_suffix(&*end).is_some_and(|prefix| prefix.ends_with('/'))
    })?;
    let directory = match place {
        Place::Repositories => format!("/var/db/repos/{name}"),
        Place::Kernels => "/var/lib/kernel".to_owned(),
        Place::PatchFiles => "/".to_owned(),
    };
    Some(format!("[targets.\"{directory}\"]\nchannel = \"{channel}\"\n{rest}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a host\nname:web1\nrepos:\n  -gentoo\n  -local:extra\nkernel:6.9.1-gentoo\nusers:\n  admin:\n    shell:/bin/bash\n";

    #[test]
    fn lines_belong_to_those_above_them() {
        let nodes = parse(TEXT).unwrap();
        let keys: Vec<_> = nodes.iter().map(|node| (&*node.key, &*node.value, node.below.len())).collect();
        assert_eq!(
            keys,
            [("name", "web1", 0), ("repos", "", 2), ("kernel", "6.9.1-gentoo", 0), ("users", "", 1)]
        );
        assert_eq!(nodes[3].below[0].below[0].value, "/bin/bash");
        assert!(nodes[1].below[1].is_item && nodes[1].below[1].value == "extra");
    }

    #[test]
    fn what_is_not_such_a_file_is_refused_with_its_line() {
        for (text, expected) in [
            ("a\n", "line 1: it is neither"),
            ("a:b\n c:d\n", "line 2: it is not moved in"),
            ("a:b\n      c:d\n", "line 2: it is moved in further"),
            ("  a:b\n", "line 1: it is moved in further"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
        let deep: Vec<String> = (0..40).map(|depth| format!("{}a:\n", "  ".repeat(depth))).collect();
        parse(&deep.concat()).unwrap_err();
        parse(&"a:b\n".repeat(LINES_MAX + 1)).unwrap_err();
    }

    #[test]
    fn what_a_profile_can_say_is_proposed_and_the_rest_is_named() {
        let channels: Vec<Channel> =
            ["old/repos/gentoo", "old/kernels"].map(|name| name.parse().unwrap()).into();
        let proposal = propose(&parse(TEXT).unwrap(), &channels);
        assert_eq!(
            proposal.profile,
            "[targets.\"/var/db/repos/gentoo\"]\nchannel = \"old/repos/gentoo\"\n\n\
             [targets.\"/var/lib/kernel\"]\nchannel = \"old/kernels\"\nref = \"current\"\n\n"
        );
        assert_eq!(proposal.not_understood, [2, 5, 7, 8]);
    }
}
