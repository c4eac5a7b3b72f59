//! How upstreams are spoken to: where a redirect may lead, and which addresses a name may stand for.
//!
//! An upstream is a stranger. It may send this server on to another one, as mirrors do, but not to a service of the
//! network that this server is in: addresses that are private are only spoken to where the operator has named the host.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Url};

/// How often one request may be sent on.
const REDIRECTS_MAX: usize = 5;
/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A client for upstreams on these hosts.
pub(super) fn client(hosts: HashSet<String>) -> anyhow::Result<Client> {
    let hosts = Arc::new(hosts);
    let allowed = Arc::clone(&hosts);
    Client::builder()
        .user_agent(concat!("smart-sync-server/", env!("CARGO_PKG_VERSION")))
        // What is compressed on the way has neither the size nor the ranges of the file.
        .no_gzip()
        .connect_timeout(CONNECT_TIME)
        .redirect(Policy::custom(move |attempt: Attempt<'_>| {
            match refusal(attempt.url(), attempt.previous().len(), &allowed) {
                Some(reason) => attempt.error(reason),
                None => attempt.follow(),
            }
        }))
        .dns_resolver(Arc::new(Resolver { hosts }))
        .build()
        .context("preparing for HTTP")
}

/// Why a redirect is not followed.
fn refusal(to: &Url, followed: usize, hosts: &HashSet<String>) -> Option<String> {
    if followed > REDIRECTS_MAX {
        return Some(format!("it redirects more than {REDIRECTS_MAX} times"));
    }
    if !matches!(to.scheme(), "http" | "https") {
        return Some(format!("it redirects to the scheme {}", to.scheme()));
    }
    let host = to.host_str().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let is_inside = address.is_some_and(|address| !is_public(address)) && !hosts.contains(host);
    is_inside.then(|| format!("it redirects to {host}, an address inside of this network"))
}

/// Finds the addresses of hosts.
struct Resolver {
    /// Those that the operator has named.
    hosts: Arc<HashSet<String>>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let is_named = self.hosts.contains(name.as_str());
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses: Vec<SocketAddr> =
                found.filter(|address| is_named || is_public(address.ip())).collect();
            if addresses.is_empty() {
                return Err(format!("{} has no address outside of this network", name.as_str()).into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the public network.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    // 0.0.0.0/8 is "this network", 100.64.0.0/10 is between providers and customers, 240.0.0.0/4 is nobody's.
    let is_special = first == 0 || first >= 240 || (first == 100 && second & 0xc0 == 64);
    !(is_special
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(address) = address.to_ipv4_mapped() {
        return is_public_v4(address);
    }
    // Only 2000::/3 is given out to anybody; 64:ff9b::/96 stands for addresses of the other kind.
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
        }
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_no_other_scheme_and_not_into_the_own_network() {
        let hosts = HashSet::from(["127.0.0.1".to_owned()]);
        let refused = |url: &str, followed| refusal(&Url::parse(url).unwrap(), followed, &hosts);
        assert_eq!(refused("https://mirror.example.org/a", 5), None);
        assert_eq!(refused("http://127.0.0.1:8080/a", 1), None, "the operator has named it");
        for (url, followed) in [
            ("https://mirror.example.org/a", 6),
            ("file:///etc/passwd", 1),
            ("ftp://mirror.example.org/a", 1),
            ("http://127.0.0.2/a", 1),
            ("http://10.1.2.3/a", 1),
            ("http://169.254.169.254/latest", 1),
            ("http://[::1]/a", 1),
            ("http://[::ffff:10.1.2.3]/a", 1),
            ("http://2130706434/a", 1),
        ] {
            assert!(refused(url, followed).is_some(), "{url}");
        }
    }

    #[test]
    fn addresses_of_the_public_network_are_told_from_others() {
        for public in ["8.8.8.8", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for other in [
            "0.0.0.0",
            "100.64.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "fc00::1",
            "fe80::1",
            "64:ff9b::a01:203",
            "::",
        ] {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }
}
