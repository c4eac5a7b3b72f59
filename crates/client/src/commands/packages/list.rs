//! What an index says of packages.

use indicatif::HumanBytes;
use smart_sync_store::manifest::TreePath;
use smart_sync_sync::kinds::binpkgs::atom::Atom;
use smart_sync_sync::kinds::binpkgs::dependencies::{Dependencies, Node};
use smart_sync_sync::kinds::built_on::{Builders, BuiltOn};

use super::{Package, Shelf};
use crate::args::packages::{PackageListArgs, PackageShowArgs};
use crate::commands::Listing;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::Format;
use crate::sync::Surroundings;

/// The package whose version matters most to where another one runs.
const LIBC: (&str, &str) = ("sys-libs", "glibc");
/// What is shown of a package, in this order.
const SHOWN: [&str; 11] =
    ["BUILD_ID", "SLOT", "KEYWORDS", "CHOST", "USE", "IUSE", "RDEPEND", "LICENSE", "REPO", "PATH", "SHA1"];

/// Lists packages, a line each.
pub(super) fn list(
    args: &PackageListArgs,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let output = surroundings.output;
    let shelf = Shelf::open(&args.tree, config, surroundings)?;
    let packages = shelf.named(&args.atoms)?;
    if output.format() == Format::Json {
        return say_as_json(&shelf, &packages);
    }
    let mut listing = Listing::default();
    for package in &packages {
        let size = HumanBytes(package.size()).to_string();
        let flags = flags_of(package).join(" ");
        listing.line(format!("{:<44} {size:>11}  {flags}", package.title()).trim_end());
    }
    listing.print(output)?;
    Ok(Exit::Success)
}

/// Shows all that is known of packages.
pub(super) fn show(
    args: &PackageShowArgs,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let output = surroundings.output;
    let shelf = Shelf::open(&args.tree, config, surroundings)?;
    let packages = shelf.named(&args.atoms)?;
    if packages.is_empty() {
        return Err(Failure::message(Exit::General, format!("the index has no {}", args.atoms.join(", ")))
            .hint("`smart-sync pkg list` shows what it has"));
    }
    if output.format() == Format::Json {
        return say_as_json(&shelf, &packages);
    }
    let builders = shelf.builders()?;
    let mut listing = Listing::default();
    for (at, package) in packages.iter().enumerate() {
        if at > 0 {
            listing.line("");
        }
        listing.line(&package.cpv.to_string());
        listing.line(&format!("  {:<10} {}", "size", HumanBytes(package.size())));
        for key in SHOWN.iter().filter(|key| !package.value(key).is_empty()) {
            listing.line(&format!("  {:<10} {}", key.to_lowercase().replace('_', " "), package.value(key)));
        }
        if let Some(libc) = libc_of(package) {
            listing.line(&format!("  {:<10} {libc}", "glibc"));
        }
        if let Some(builder) = builder_of(&builders, package) {
            let kernel = builder.kernel().map(|kernel| format!("kernel {kernel}"));
            let parts: Vec<String> = builder.host().map(str::to_owned).into_iter().chain(kernel).collect();
            listing.line(&format!("  {:<10} {}", "built on", parts.join(", ")));
        }
    }
    listing.print(output)?;
    Ok(Exit::Success)
}

/// Says all that is known of packages, an object each.
fn say_as_json(shelf: &Shelf<'_>, packages: &[Package<'_>]) -> Result<Exit, Failure> {
    let builders = shelf.builders()?;
    for package in packages {
        shelf.surroundings.output.event(&as_json(package, builder_of(&builders, package)));
    }
    Ok(Exit::Success)
}

/// The machine that a package was built on, where that was said.
fn builder_of<'a>(builders: &'a Builders, package: &Package<'_>) -> Option<&'a BuiltOn> {
    builders.get(&TreePath::new(package.value("PATH").as_bytes()).ok()?)
}

fn as_json(package: &Package<'_>, builder: Option<&BuiltOn>) -> serde_json::Value {
    serde_json::json!({
        "event": "package",
        "cpv": package.cpv.to_string(),
        "build_id": package.build_id,
        "size": package.size(),
        "use": flags_of(package),
        "glibc": libc_of(package),
        "path": package.value("PATH"),
        "sha1": package.value("SHA1"),
        "repository": package.value("REPO"),
        "built_on": builder.map(|builder| serde_json::json!({
            "host": builder.host(),
            "kernel": builder.kernel(),
        })),
    })
}

/// The flags that a package was built with, of those that it knows.
pub(super) fn flags_of<'a>(package: &Package<'a>) -> Vec<&'a str> {
    let known = package.value("IUSE").split_ascii_whitespace();
    let known: Vec<&str> = known.map(|flag| flag.trim_start_matches(['+', '-'])).collect();
    package.value("USE").split_ascii_whitespace().filter(|flag| known.contains(flag)).collect()
}

/// Which glibc a package asks for where it runs.
fn libc_of(package: &Package<'_>) -> Option<String> {
    let dependencies: Dependencies<Atom> = package.value("RDEPEND").parse().ok()?;
    find_libc(&dependencies.0)
}

fn find_libc(nodes: &[Node<Atom>]) -> Option<String> {
    nodes.iter().find_map(|node| match node {
        Node::One(atom) => {
            let is_libc = (&*atom.category, &*atom.name) == LIBC && atom.blocker.is_none();
            is_libc.then(|| atom.to_string())
        }
        Node::All(nodes) | Node::Any(nodes) | Node::Conditional { nodes, .. } => find_libc(nodes),
    })
}
